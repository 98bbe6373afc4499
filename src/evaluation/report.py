"""A report of a run: what its folder tells of training and of its model's predictions, as one page with pictures."""

import shlex
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.evaluation.charts import Chart, draw_charts, history_charts, prediction_charts
from src.evaluation.metrics import wilson_interval
from src.evaluation.predictions import Predictions, predict_split, read_predictions, write_predictions
from src.evaluation.predictor import Predictor
from src.evaluation.slices import by_confidence, expected_calibration_error
from src.evaluation.split import open_split
from src.evaluation.visualize import page_template
from src.interop.huggingface import WEIGHTS
from src.utils.config import WEIGHTS_DIR, PretrainConfig
from src.utils.errors import CheckpointError, DataError, printable
from src.utils.files import read_json, storage_errors
from src.utils.programs import ReportConfig
from src.utils.runs import METRICS, RUN, read_rows, task_of, whole_run

PAGE, PREDICTIONS = "report.html", "predictions.jsonl"
MOST_MISTAKES = 20


@dataclass(frozen=True)
class Report:
    """What there is to show, and a sentence for each thing that is missing."""

    title: str
    facts: dict[str, str]
    settings: dict[str, Any]
    missing: list[str]
    charts: list[Chart]
    predictions: Predictions | None


def make_report(config: ReportConfig) -> Report:
    """Reads a run's folder, and lets its model predict a split unless predictions are named.

    Raises:
        CheckpointError: the folder holds nothing to report, or its files are damaged.
        DataError: predictions or data that were named cannot be used.
    """
    folder = config.folder
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; name the folder of a run, for instance one in {WEIGHTS_DIR}")
    run = read_json(folder / RUN) if (folder / RUN).exists() else {}
    rows, damaged = read_rows(folder / METRICS) if (folder / METRICS).exists() else ([], 0)
    charts = history_charts(rows)
    missing = [f"No curves: {folder} holds no {METRICS} with loss or accuracy."] if not charts else []
    if damaged:
        missing.append(f"Damaged lines of {METRICS}, which are left out: {damaged:,}.")
    predictions, reason = _predict(config, run, has_curves=bool(charts))
    if predictions is not None:
        charts += prediction_charts(predictions)
        if predictions.true is None:
            reason = f"No accuracy, confusion, calibration and mistakes: {predictions.origin} has no labels."
        elif predictions.unknown is None:
            reason = "No accuracy by unknown words: the predictions do not count them."
    missing += [reason] if reason else []
    if not charts:
        raise CheckpointError(f"{folder} holds nothing to report: {' '.join(missing)}")
    name = folder.resolve().name
    with whole_run(folder):
        facts, settings = _facts_of_run(run) if run else {}, _settings(run)
    facts |= _facts_of_predictions(predictions) if predictions is not None else {}
    title = name if predictions is None else f"{name} on {predictions.origin}"
    return Report(title, facts, settings, missing, charts, predictions)


def write_report(report: Report, folder: Path, keep_predictions: bool) -> Path:
    """Writes the page, a PNG of each chart for light and for dark pages and, to make the page again, predictions.jsonl.

    Returns:
        The page.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for chart in report.charts:
            files = folder / f"{chart.name}.png", folder / f"{chart.name}-dark.png"
            for file, dark in zip(files, (False, True), strict=True):
                draw_charts(file, [chart], dark=dark)
            pictures.append((chart.title, *(b64encode(file.read_bytes()).decode() for file in files)))
        if keep_predictions and report.predictions is not None:
            write_predictions(folder / PREDICTIONS, report.predictions)
        (folder / PAGE).write_text(render(report, pictures), encoding="utf-8")
    return folder / PAGE


def render(report: Report, pictures: Sequence[tuple[str, ...]]) -> str:
    """Renders the page.

    Args:
        report: what to show.
        pictures: titles, and PNGs in base64 for light and for dark pages.

    Returns:
        HTML, without a script or an address of another file.
    """
    predictions = report.predictions
    context: dict[str, Any] = {"report": report, "title": report.title, "pictures": pictures}
    if predictions is not None and predictions.true is not None:
        context |= {"classes": _classes(predictions), "mistakes": most_confident_mistakes(predictions)}
    return page_template().render(context)


def most_confident_mistakes(predictions: Predictions, most: int = MOST_MISTAKES) -> list[int]:
    """Finds the places of the wrong predictions that the model was surest of, the surest first."""
    wrong = [row for row, right in enumerate(predictions.right) if not right]
    return sorted(wrong, key=lambda row: -predictions.scores[row])[:most]


def _predict(config: ReportConfig, run: Mapping[str, Any], has_curves: bool) -> tuple[Predictions | None, str]:
    """Gives the predictions, or the sentence that says why there are none."""
    folder = config.folder
    if config.predictions is not None:
        return read_predictions(config.predictions), ""
    if task_of(run) == PretrainConfig.task:
        return None, "No predictions: a pre-training names masked tokens, and has no classes."
    if not (folder / WEIGHTS).exists():
        return None, f"No predictions: {folder} holds no model, which training saves at its end; or name --predictions."
    try:
        predictor = Predictor.load(folder, config.device)
        corpus = open_split(folder, config, predictor.classifier.label_names, allow_unlabelled=True)
        return predict_split(predictor, corpus.splits[config.split]), ""
    except DataError as error:
        if config.dataset is not None or not has_curves:
            raise
        return None, f"No predictions: {error}."


def _facts_of_run(run: Mapping[str, Any]) -> dict[str, str]:
    script, *arguments = run["command"]
    path = Path(script)
    # The interpreter turned `-m src.train` into the path of the file.
    program = ["-m", f"src.{path.stem}"] if path.parent.name == "src" else [script]
    return {
        "command": shlex.join(["python", *program, *arguments]),
        "trained on": str(run["data"]["name"]),
        "parameters": f"{run['model']['parameters']:,}",
        "begun": str(run["started"]),
        "ended": str(run["finished"] or "not yet, or interrupted"),
    }


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    config = run.get("config", {})
    groups = [config, *(group for group in config.values() if isinstance(group, dict))]
    return {name: value for group in groups for name, value in group.items() if not isinstance(value, dict | None)}


def _facts_of_predictions(predictions: Predictions) -> dict[str, str]:
    facts = {"predicted": f"{len(predictions.texts):,} texts of {predictions.origin}"}
    if predictions.true is not None:
        right, n = sum(predictions.right), len(predictions.texts)
        low, high = wilson_interval(right, n)
        facts["accuracy"] = f"{right / n:.1%} (95% interval {low:.1%} to {high:.1%})"
        facts["mean confidence"] = f"{sum(predictions.scores) / n:.1%}"
        facts["expected calibration error"] = f"{expected_calibration_error(by_confidence(predictions)):.1%}"
    return facts


def _classes(predictions: Predictions) -> str:
    from sklearn.metrics import classification_report

    # The confusion matrix of many classes has room for numbers alone.
    names = [f"{number} {printable(name)[:30]}" for number, name in enumerate(predictions.label_names)]
    return str(
        classification_report(
            predictions.true, predictions.predicted, labels=range(len(names)), target_names=names, zero_division=0
        )
    )
