"""The comparison of models that are given by name for a task, from the data to the report."""

import json
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from ..arguments import FineTuningDataArguments
from ..arguments.comparison_arguments import ComparisonArguments, ComparisonOutputArguments
from ..report.blocks import Report
from ..trainers.generative_config import GenerativeConfig
from ..trainers.tasks import SPEECH
from .claiming import RESULTS, claimed
from .kinds import check_kinds
from .speech_models import SpeechModels
from .task_models import TaskModels
from .task_story import tell_tasks


def compare_task_models(
    args: ComparisonArguments,
    data_args: FineTuningDataArguments,
    output: ComparisonOutputArguments,
    command: str,
) -> Report | None:
    """
    Judges classifiers, language models or models of speech that are given by name, and writes results.json.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): Which models and which task.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        output ([`~hf_genkit.arguments.ComparisonOutputArguments`]): Where it goes.
        command (`str`): The command that is run.

    Returns:
        [`~hf_genkit.report.blocks.Report`], or `None` on processes other than the first.
    """
    folder, common = Path(output.output_dir), GenerativeConfig(output.output_dir, use_cpu=output.use_cpu)
    check_kinds(args.models, args.task, args.trust_remote_code)
    models = (SpeechModels if args.task == SPEECH else TaskModels)(args, data_args, common.device)
    with claimed(folder, common, args, data_args):
        if not PartialState().is_main_process:
            return None
        judged = models.judge()
    results = {"task": args.task, "models": [asdict(one) for one in judged], "command": command}
    (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return tell_tasks(judged, args.task, models.data, data_args, command, models.device)
