"""The YAML header of a model card: what the Hugging Face hub sorts, links and plots models by."""

import re
from collections.abc import Mapping
from typing import Any

# Here and not where it is used: W&B watches imports, and one whose service was killed breaks any that come later.
from huggingface_hub import EvalResult, ModelCardData

from src.data.hub import HUB_ID
from src.utils.config import IMDB, SAMPLE, SST2
from src.utils.runs import stages

# A folder in the hub's layout goes by its last name.
HUB_NAMES = {"sst2": SST2, "imdb": IMDB}
ENGLISH = {SST2, IMDB, SAMPLE}
TASKS = {"text-classification": "Text Classification", "fill-mask": "Fill-Mask"}
METRICS = {"accuracy": "Accuracy", "f1": "Macro F1", "matthews_correlation": "Matthews correlation"}
# This project's own, for weights that go back to nothing but random numbers and training here.
OWN_LICENSE = "mit"


def card_header(run: Mapping[str, Any], task: str, model_name: str, results: Mapping[str, float]) -> str:
    """Writes the header of a run's model card.

    Args:
        run: the content of run.json.
        task: the hub's name of it, a key of `TASKS`.
        model_name: a title for the model.
        results: what was measured on the validation data, keys of `METRICS`; fractions.

    Returns:
        YAML between two lines of three dashes.
    """
    corpora = [corpus for stage in stages(run) for corpus in _corpora(stage)]
    on_hub = list(dict.fromkeys(corpus for corpus in corpora if HUB_ID.fullmatch(corpus)))
    origins = [_origin(stage) for stage in stages(run)]
    data = ModelCardData(
        language="en" if set(corpora) <= ENGLISH else None,
        license=OWN_LICENSE if origins[-1] is None else "unknown",
        library_name="transformers",
        pipeline_tag=task,
        tags=[run["model"]["model_type"]],
        base_model=next((origin for origin in origins if origin is not None and HUB_ID.fullmatch(origin)), None),
        datasets=on_hub or None,
        metrics=list(results),
        model_name=model_name,
        eval_results=[_result(run, task, metric, value) for metric, value in results.items()],
    )
    return f"---\n{data.to_yaml()}\n---"


def _origin(stage: Mapping[str, Any]) -> str | None:
    origin: str | None = stage["config"].get("model_name_or_path")
    return origin


def _corpora(stage: Mapping[str, Any]) -> list[str]:
    """Names what a training read, by the hub's names where it has them."""
    named = (part.rpartition(":")[0] or part for part in stage["data"]["name"].split(" + "))
    return [HUB_NAMES.get(name, name) for name in named]


def _result(run: Mapping[str, Any], task: str, metric: str, value: float) -> Any:
    corpora = _corpora(run)
    origin = run["data"].get("validation_origin", f"{run['data']['name']}, held-out documents")
    split = re.search(r", split ([\w-]+)", origin)
    return EvalResult(
        task_type=task,
        task_name=TASKS[task],
        dataset_type=corpora[0],
        dataset_name=origin,
        dataset_split=split and split[1],
        metric_type=metric,
        metric_name=METRICS[metric],
        metric_value=round(value, 4),
    )
