"""A report of a run: what its folder tells of training and of the model's answers, and what it does not tell."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.evaluation.answer_charts import answer_charts
from src.evaluation.answers import Answers, answer_split, read_answers, write_answers
from src.evaluation.calibration import expected_calibration_error, reliability
from src.evaluation.charts import DARK, LIGHT, Chart, chart_png, sheet
from src.evaluation.curve_charts import history_charts
from src.evaluation.curves import History, read_history
from src.evaluation.metrics import wilson_interval
from src.evaluation.predictor import Predictor
from src.evaluation.report_page import report_page
from src.evaluation.split import open_split
from src.interop.huggingface import WEIGHTS
from src.utils.config import WEIGHTS_DIR, PretrainConfig
from src.utils.errors import CheckpointError, DataError
from src.utils.files import read_json, storage_errors
from src.utils.programs import ReportConfig
from src.utils.runs import METRICS, RUN, task_of

PAGE, PREDICTIONS = "report.html", "predictions.jsonl"


@dataclass(frozen=True)
class Report:
    """What there is to show, and a sentence for each thing that is missing."""

    title: str
    facts: dict[str, str]
    missing: list[str]
    charts: list[Chart]
    answers: Answers | None


def gather(config: ReportConfig) -> Report:
    """Reads a folder, and lets its model answer the texts of a split unless predictions are named.

    Args:
        config: names the folder and the data.

    Returns:
        The report; it has at least one chart.

    Raises:
        CheckpointError: the folder holds nothing to report, or its files are damaged.
        DataError: predictions or data that were named cannot be used.
    """
    folder = config.folder
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; name the folder of a run, for instance one in {WEIGHTS_DIR}")
    run = read_json(folder / RUN) if (folder / RUN).exists() else {}
    history = read_history(folder / METRICS) if (folder / METRICS).exists() else None
    answers, reason = _answers(config, run, history is not None)
    curves = [] if history is None else history_charts(history)
    charts = curves + ([] if answers is None else answer_charts(answers))
    missing = _missing_of_history(folder, history, curves) + reason + _missing_of_answers(answers)
    if not charts:
        raise CheckpointError(f"{folder} holds nothing to report: {' '.join(missing)}")
    name = folder.resolve().name
    title = name if answers is None else f"{name} on {answers.origin}"
    return Report(title, _facts_of_run(run) | _facts_of_answers(answers), missing, charts, answers)


def write_report(report: Report, folder: Path, keep_answers: bool) -> Path:
    """Writes the page and its pictures.

    Args:
        report: what to show.
        folder: where to; it is made, and files of the same names are replaced.
        keep_answers: write predictions.jsonl, too, from which the page can be made again without the model.

    Returns:
        The page.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pictures = [(chart, chart_png(chart, LIGHT), chart_png(chart, DARK)) for chart in report.charts]
    page = report_page(report.title, report.facts, report.missing, pictures, report.answers)
    with storage_errors(folder):
        for chart, light, dark in pictures:
            (folder / f"{chart.name}.png").write_bytes(light)
            (folder / f"{chart.name}-dark.png").write_bytes(dark)
        if keep_answers and report.answers is not None:
            write_answers(folder / PREDICTIONS, report.answers)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def write_sheet(report: Report, path: Path) -> None:
    """Draws all charts of a report into one PNG.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(path):
        accuracy = report.facts.get("accuracy")
        sheet(path, report.charts, report.title + ("" if accuracy is None else f": accuracy {accuracy}"))


def _answers(config: ReportConfig, run: Mapping[str, Any], has_history: bool) -> tuple[Answers | None, list[str]]:
    """Gives the answers, or the sentence that says why there are none."""
    folder = config.folder
    if config.predictions is not None:
        return read_answers(config.predictions), []
    if task_of(run) == PretrainConfig.task:
        return None, ["No predictions: a pre-training names masked tokens, and has no classes."]
    if not (folder / WEIGHTS).exists():
        return None, [f"No predictions: {folder} holds no model; a run delivers it at its end, or name --predictions."]
    try:
        return _predict(config), []
    except DataError as error:
        if config.dataset is not None or not has_history:
            raise
        return None, [f"No predictions: {error}."]


def _predict(config: ReportConfig) -> Answers:
    predictor = Predictor.load(config.folder, config.device)
    corpus = open_split(config.folder, config, predictor.classifier.label_names, allow_unlabelled=True)
    return answer_split(predictor, corpus.splits[config.split])


def _missing_of_history(folder: Path, history: History | None, curves: list[Chart]) -> list[str]:
    if history is None:
        return [f"No curves: {folder} holds no {METRICS}, in which training records them."]
    drawn = {chart.name for chart in curves}
    sentences = [
        f"No {name} curve: {METRICS} records none so far." for name in ("loss", "accuracy") if name not in drawn
    ]
    if history.broken:
        sentences.append(f"Lines of {METRICS} that are damaged and left out: {history.broken:,}.")
    return sentences


def _missing_of_answers(answers: Answers | None) -> list[str]:
    if answers is None:
        return []
    if answers.true is None:
        return [f"No accuracy, confusion, calibration and mistakes: {answers.origin} has no labels."]
    return ["No accuracy by unknown words: the predictions do not count them."] if answers.unknown is None else []


def _facts_of_run(run: Mapping[str, Any]) -> dict[str, str]:
    data, model = run.get("data"), run.get("model")
    facts: dict[str, Any] = {}
    if isinstance(command := run.get("command"), list) and command:
        facts["command"] = shlex.join([Path(str(command[0])).name, *map(str, command[1:])])
    if isinstance(data, dict):
        facts["trained on"] = data.get("name")
    if isinstance(model, dict) and isinstance(parameters := model.get("parameters"), int):
        facts["parameters"] = f"{parameters:,}"
    facts["begun"] = run.get("started")
    facts["ended"] = run.get("finished") or ("not yet, or interrupted" if run else None)
    return {name: str(value) for name, value in facts.items() if value is not None}


def _facts_of_answers(answers: Answers | None) -> dict[str, str]:
    if answers is None:
        return {}
    facts = {"predicted": f"{len(answers.texts):,} texts of {answers.origin}"}
    if answers.true is not None:
        right, n = sum(answers.right), len(answers.texts)
        low, high = wilson_interval(right, n)
        facts["accuracy"] = f"{100 * right / n:.1f} % (95 % interval {100 * low:.1f}-{100 * high:.1f})"
        error = expected_calibration_error(reliability(answers.scores, answers.right))
        facts["expected calibration error"] = f"{100 * error:.1f} points"
    return facts
