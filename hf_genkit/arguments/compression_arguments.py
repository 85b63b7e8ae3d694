"""The links of a chain of compression, as a command line names them."""

from dataclasses import dataclass, field

from .checks import check_choice, nearest


def _layers(text: str) -> list[int]:
    return [int(number) for number in text.split("+")]


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


# Name of a link -> its options and what reads each.
LINKS = {
    "prune": {
        "intermediate": float, "heads": float, "hidden": float, "channels": float, "layers": _layers, "importance": str,
    },
    "mask": {"sparsity": float, "scope": str, "n": int, "m": int},
    "distil": {"epochs": float, "learning_rate": float},
    "finetune": {"epochs": float, "learning_rate": float},
    "qat": {"epochs": float, "learning_rate": float},
    "quantize": {"method": str, "embeddings": _truth},
    "export": {"int8": str},
}  # fmt: skip


FORMS = ("quantize", "export")
"""Links that make another form of the float model, which no later link starts from."""


@dataclass(frozen=True)
class Link:
    """
    One step of a chain.

    Args:
        kind (`str`): A key of `LINKS`.
        options (`dict`): What it is told.
        text (`str`): As it was written.
    """

    kind: str
    options: dict
    text: str

    @classmethod
    def from_string(cls, text: str) -> "Link":
        """
        Reads "prune:intermediate=0.5,layers=0+2+4" or just "distil".

        Raises:
            `ValueError`: There is no such link or option, or a value is of another kind.
        """
        kind, _, rest = text.partition(":")
        check_choice("chain", kind, list(LINKS))
        options = {}
        for part in filter(None, rest.split(",")):
            name, _, value = part.partition("=")
            if name not in LINKS[kind]:
                known = list(LINKS[kind])
                raise ValueError(
                    f"`chain` has '{text}', but '{kind}' takes {', '.join(known)} and not '{name}'{nearest(name, known)}."
                )
            try:
                options[name] = LINKS[kind][name](value)
            except (KeyError, ValueError) as error:
                raise ValueError(f"`chain` has '{text}', but '{value}' is no value for '{name}'.") from error
        return cls(kind, options, text)


@dataclass
class CompressionArguments:
    """Which model, and which chain of links makes it smaller."""

    model_name_or_path: str = field(metadata={"help": "Trained model: Hub id or local folder."})
    model_revision: str | None = field(default=None, metadata={"help": "Its commit, tag or branch."})
    chain: list[str] = field(
        default_factory=lambda: ["prune:intermediate=0.5", "distil:epochs=3", "quantize:method=int8_dynamic", "export:int8=dynamic"],
        metadata={
            "help": "Links in order: prune:intermediate=0.5,heads=..,hidden=..,channels=..,layers=0+2+4,importance=taylor; "
            "mask:sparsity=0.8 or mask:n=2,m=4; distil:epochs=3,learning_rate=1e-3; finetune:epochs=1; qat:epochs=1; "
            "quantize:method=int8_dynamic|int8_weight_only|int4_weight_only|int8_bnb|nf4; export:int8=dynamic|static|none."
        },
    )  # fmt: skip
    calibration_samples: int = field(
        default=256, metadata={"help": "Training samples for importance=taylor and for export:int8=static."}
    )
    measure_memory: bool = field(
        default=True, metadata={"help": "Load each form in a process of its own and take its peak memory."}
    )

    def __post_init__(self):
        links = self.links
        if not links:
            raise ValueError("`chain` is empty, but it needs one link or more.")
        for link, following in zip(links, [*links[1:], None], strict=True):
            prepared = following is not None and following.kind == "quantize"
            prepared = prepared and following.options.get("method", "int8_dynamic") == "int8_dynamic"
            if link.kind == "qat" and not prepared:
                raise ValueError("`chain` has 'qat', which must be followed by 'quantize:method=int8_dynamic'.")
            if link.kind in FORMS and following is not None and following.kind not in FORMS:
                raise ValueError(
                    f"`chain` has '{following.text}' after '{link.text}', but only quantize and export may follow these: "
                    "each makes a form of the float model before them."
                )
            if link.kind == "prune" and not link.options:
                raise ValueError("`chain` has 'prune' without a share to remove, such as 'prune:intermediate=0.5'.")

    @property
    def links(self) -> list[Link]:
        """The chain, read."""
        return [Link.from_string(text) for text in self.chain]
