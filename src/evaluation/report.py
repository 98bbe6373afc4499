"""A report of a run: what its folder tells of training and of its model's predictions, as one page with pictures."""

import logging
import shlex
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.evaluation.charts import draw_charts, history_charts, prediction_charts
from src.evaluation.metrics import expected_calibration_error, wilson_interval
from src.evaluation.predictions import Predictions, open_split, predict_split, read_predictions, write_predictions
from src.evaluation.predictor import Predictor
from src.evaluation.visualize import page_template
from src.interop.huggingface import TEMPERATURE, WEIGHTS
from src.utils.config import SINGLE_LABEL, WEIGHTS_DIR, PretrainConfig, ReportConfig
from src.utils.errors import CheckpointError, DataError, printable
from src.utils.files import read_json, storage_errors
from src.utils.runs import METRICS, RUN, read_rows, whole_run

logger = logging.getLogger(__name__)


def write_report(config: ReportConfig) -> Path:
    """Writes report.html, which it returns, a PNG of each chart, and the predictions, all the page needs of a model."""
    run_folder, folder = config.folder, config.output_dir or config.folder / "report"
    page = folder / "report.html"
    if not run_folder.is_dir():
        raise CheckpointError(f"{run_folder} is no folder; name the folder of a run, for instance one in {WEIGHTS_DIR}")
    run = read_json(run_folder / RUN) if (run_folder / RUN).exists() else {}
    rows, damaged = read_rows(run_folder / METRICS)
    charts = history_charts(rows)
    missing = [f"No curves: {run_folder} holds no {METRICS} with loss or accuracy."] if not charts else []
    missing += [f"Damaged lines of {METRICS}, which are left out: {damaged:,}."] if damaged else []
    predictions, reason = _predict(config, run, has_curves=bool(charts))
    missing += [reason] if reason else []
    charts += prediction_charts(predictions) if predictions is not None else []
    if not charts:
        raise CheckpointError(f"{run_folder} holds nothing to report: {' '.join(missing)}")
    for sentence in missing:
        logger.info(sentence)
    title = run_folder.resolve().name + (f" on {predictions.origin}" if predictions is not None else "")
    context: dict[str, Any] = {"title": title, "missing": missing, "pictures": [], "predictions": predictions}
    with whole_run(run_folder):
        context |= {"facts": _facts(run, predictions), "settings": dict(run.get("config", {}))}
    if predictions is not None and predictions.true is not None:
        context |= _tables(predictions)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            files = folder / f"{chart.name}.png", folder / f"{chart.name}-dark.png"
            for file, dark in zip(files, (False, True), strict=True):
                draw_charts(file, [chart], dark=dark)
            context["pictures"].append((chart.title, *(b64encode(file.read_bytes()).decode() for file in files)))
        if predictions is not None and config.predictions is None:
            write_predictions(folder / "predictions.jsonl", predictions)
        page.write_text(page_template().render(context), encoding="utf-8")
    if config.picture is not None:
        with storage_errors(config.picture):
            accuracy = context["facts"].get("accuracy")
            draw_charts(config.picture, charts, title + (f": accuracy {accuracy}" if accuracy else ""))
        logger.info(f"picture     {config.picture}")
    return page


def _tables(predictions: Predictions) -> dict[str, Any]:
    from sklearn.metrics import classification_report

    # A confusion matrix of many classes has room for their numbers alone.
    names = [f"{number} {printable(name)[:30]}" for number, name in enumerate(predictions.label_names)]
    options = {"labels": predictions.label_names, "target_names": names, "zero_division": 0}
    wrong = [row for row, right in enumerate(predictions.right) if not right]
    return {
        "classes": classification_report(predictions.true, predictions.label, **options),
        "mistakes": sorted(wrong, key=lambda row: -predictions.score[row])[:20],
    }


def _predict(config: ReportConfig, run: Mapping[str, Any], has_curves: bool) -> tuple[Predictions | None, str]:
    """Gives the predictions, if there are any, and a sentence on what they lack."""
    try:
        if config.predictions is not None:
            predictions = read_predictions(config.predictions)
        elif run.get("task") == PretrainConfig.task:
            return None, "No predictions: a pre-training names masked tokens, and has no classes."
        elif not (config.folder / WEIGHTS).exists():
            return None, f"No predictions: {config.folder} holds no model, which training saves at its end."
        else:
            predictor = Predictor.load(config.folder, config.device)
            if (kind := predictor.model.config.problem_type) not in SINGLE_LABEL:
                return None, f"No predictions: the charts are of one class of several, and this model is of {kind}."
            corpus = open_split(config.folder, config, predictor.classifier, allow_unlabelled=True)
            predictions = predict_split(predictor, corpus.splits[config.split])
    except DataError as error:
        if config.dataset is not None or config.predictions is not None or not has_curves:
            raise
        return None, f"No predictions: {error}."
    if predictions.true is None:
        return predictions, f"No accuracy, confusion, calibration and mistakes: {predictions.origin} has no labels."
    unknown = "No accuracy by unknown words: the predictions do not count them."
    return predictions, unknown if predictions.unknown is None else ""


def _facts(run: Mapping[str, Any], predictions: Predictions | None) -> dict[str, str]:
    facts = {}
    if run:
        script, *arguments = run["command"]
        path = Path(script)
        # The interpreter turned `-m src.train` into the path of the file.
        program = ["-m", f"src.{path.stem}"] if path.parent.name == "src" else [script]
        facts = {
            "command": shlex.join(["python", *program, *arguments]),
            "trained on": str(run["data"]["name"]),
            "parameters": f"{run['model']['parameters']:,}",
            "begun": str(run["started"]),
            "ended": str(run["finished"] or "not yet, or interrupted"),
        }
        if TEMPERATURE in run:
            before, after = run["calibration_error_before"], run["calibration_error"]
            facts["temperature"] = f"{run[TEMPERATURE]:.3f}; calibration error {before:.1%} before, {after:.1%} after"
    if predictions is not None:
        right, n = sum(predictions.right), len(predictions.text)
        facts["predicted"] = f"{n:,} texts of {predictions.origin}"
        if predictions.true is not None:
            low, high = wilson_interval(right, n)
            facts["accuracy"] = f"{right / n:.1%} (95% interval {low:.1%} to {high:.1%})"
            facts["mean confidence"] = f"{sum(predictions.score) / n:.1%}"
            error = expected_calibration_error(predictions.score, predictions.right)
            facts["expected calibration error"] = f"{error:.1%}"
    return facts
