"""Model cards, and pushing a model with its card and pictures to the Hugging Face Hub in one commit."""

from .card_rules import LICENSES, check_model_card
from .cards import (
    CardFacts,
    TeacherFacts,
    hub_id,
    is_generated,
    render_model_card,
    write_model_card,
)
from .claims import Claim, DatasetFacts, Result, read_claims
from .push import check_push_access, push_folder, shareable_files


__all__ = [
    "LICENSES",
    "CardFacts",
    "Claim",
    "DatasetFacts",
    "Result",
    "TeacherFacts",
    "check_model_card",
    "check_push_access",
    "hub_id",
    "is_generated",
    "push_folder",
    "read_claims",
    "render_model_card",
    "shareable_files",
    "write_model_card",
]
