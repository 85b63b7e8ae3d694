"""How a trainer saves, resumes and describes a model of which an adapter of peft alone is trained."""

from pathlib import Path

from ..hub import CardFacts, hub_id
from .adapters import BASE_CONFIG, bare, count_parameters, is_adapter


class AdapterMixin:
    """
    What changes for a model with an adapter of peft: the adapter alone is saved, with the base's config beside it and
    without peft's card of placeholders. Without an adapter nothing changes. Expects to stand before [`GenkitTrainer`] among
    the bases.
    """

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter of peft is trained, which alone is saved then."""
        return is_adapter(self.accelerator.unwrap_model(self.model))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        card = Path(output_dir or self.args.output_dir, "README.md")
        before = card.read_bytes() if card.is_file() else None
        super()._save(output_dir, state_dict)
        if not self.is_adapter or not self.args.should_save:
            return
        config = bare(self.accelerator.unwrap_model(self.model)).config
        config.to_json_file(
            card.with_name(BASE_CONFIG)
        )  # which knows the classes; a config.json would stand for a model
        if before is None:  # peft has written a card of placeholders, or its own lines into ours
            card.unlink()
        else:
            card.write_bytes(before)

    def run_identity(self) -> dict:
        identity = super().run_identity()
        if self.is_adapter:
            model = self.accelerator.unwrap_model(self.model)
            config = model.peft_config[model.active_adapter].to_dict()
            chosen = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_dora", "target_modules")
            identity["adapter"] = {name: _plain(config[name]) for name in chosen}
            identity["adapter"]["base"] = config["base_model_name_or_path"]
        return identity

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        if self.is_adapter:
            model = self.accelerator.unwrap_model(self.model)
            base = model.peft_config[model.active_adapter].base_model_name_or_path
            if hub_id(base) is None:
                raise ValueError(
                    f"The adapter's base '{base}' is not on the Hub, so nobody could load the adapter from there: push the "
                    "base first and start from its id."
                )
        super().init_hf_repo(token, private)

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        if not self.is_adapter:
            return facts
        model = self.accelerator.unwrap_model(self.model)
        config = model.peft_config[model.active_adapter]
        base = config.base_model_name_or_path
        if "parameters" not in self._described:
            facts.parameters = count_parameters(model)
        facts.library_name = "peft"
        facts.base_model = facts.base_model or hub_id(base)
        if facts.base_model is not None:
            facts.base_model_relation = facts.base_model_relation or "adapter"
        facts.adapter_base = facts.adapter_base or facts.base_model or Path(base or "base").name
        facts.adapter_base_revision = facts.adapter_base_revision or config.revision
        facts.tags = [*facts.tags, *(tag for tag in ("lora", "peft") if tag not in facts.tags)]
        return facts


def _plain(value):
    return sorted(value) if isinstance(value, set) else value
