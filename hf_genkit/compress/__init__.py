"""Smaller models."""

from .layer_dropping import student_from_teacher
from .pairs import ModelPair


__all__ = ["ModelPair", "student_from_teacher"]
