"""The arguments of the recipe that starts a demo or makes a Space of it."""

from dataclasses import dataclass, field

from .checks import check_range


@dataclass
class DemoArguments:
    """Which model a demo shows, and where it runs."""

    model_name_or_path: str = field(
        metadata={"help": "Any model of hf_genkit, of images, classes, language or speech: Hub id or local folder."}
    )
    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Show it beside this teacher, with agreement and latency."}
    )
    title: str | None = field(default=None, metadata={"help": "Heading of the page; default: the model's name."})
    examples: list[str] = field(
        default_factory=list,
        metadata={"help": "Inputs to choose from: files of pictures or clips, or texts, as the model takes them."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Write the files of a Space into this new folder and start nothing."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Make it a Space on the Hub and start nothing."})
    hub_space_id: str | None = field(
        default=None,
        metadata={"help": "The Space: 'name' or 'namespace/name'; default: the model's name and '-demo'."},
    )
    hub_token: str | None = field(
        default=None, metadata={"help": "Token with write permission; default: the login's."}
    )
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new Space is private."})
    server_name: str | None = field(
        default=None, metadata={"help": "Address to listen on; default: 127.0.0.1, which only this machine reaches."}
    )
    server_port: int | None = field(default=None, metadata={"help": "Port; default: the first free one from 7860 on."})
    share: bool = field(
        default=False, metadata={"help": "Also give it a public address for a week, through gradio.live."}
    )
    launch: bool = field(
        default=True, metadata={"help": "Whether to start it; false builds it, to see that it can be."}
    )

    def __post_init__(self):
        check_range(self, "server_port", 1, 65535)
        if self.hub_space_id is not None and not self.push_to_hub:
            raise ValueError(f"`hub_space_id` is '{self.hub_space_id}', but `push_to_hub` is not set.")
