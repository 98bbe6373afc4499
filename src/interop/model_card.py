"""README.md of a model folder: the model card, in the Hugging Face hub's format."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Here and not where it is used: W&B watches imports, and one whose service was killed breaks any that come later.
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from src.data.hub import HUB_ID
from src.interop.huggingface import CONFIG, TEMPERATURE, load_classifier, load_masked_lm
from src.utils.config import EVALUATED_MASK_RATE, IMDB, SAMPLE, SENTIMENT_LABELS, SINGLE_LABEL, SST2
from src.utils.errors import CheckpointError, counted, printable
from src.utils.files import CARD, read_json
from src.utils.runs import stages

logger = logging.getLogger(__name__)

FAMILIES = {"bert": "BERT", "distilbert": "DistilBERT", "roberta": "RoBERTa"}
HUB_NAMES = {"sst2": SST2, "imdb": IMDB}  # a folder in the hub's layout goes by its last name
ENGLISH = {SST2, IMDB, SAMPLE}
OWN_LICENSE = "mit"  # of weights that go back to nothing but random numbers and training here
# Ours to the hub's type and title.
METRICS = {"accuracy": ("accuracy", "Accuracy"), "f1": ("f1", "Macro F1"), "mcc": ("matthews_correlation", "MCC")}
METRICS |= {"micro_f1": ("f1", "Micro F1"), "pearson": ("pearsonr", "Pearson"), "spearman": ("spearmanr", "Spearman")}
LIMITS = """## Known limits

Every text gets one of two classes: a neutral one, or one in another language, too, and often with confidence.
Double negation ("not without charm") is often read as negation."""
FOLDER = "path/to/this/folder"  # the examples' own, until the folder has a place on the hub


def classifier_card(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Writes the model card of a classifier, given its run.json and its numbers on the validation split."""
    data, settings, training = run["data"], run["config"], run["config"]["optimization"]
    problem_type = run["model"].get("problem_type")
    kind = "" if problem_type in SINGLE_LABEL else f" (`{problem_type}`)"
    text = f"""on {data["train"]:,} examples of {_escaped(data["name"])}:
{counted(training["epochs"], "epoch")}, about {training["batch_size"]} sentences a batch,
learning rate {training["learning_rate"]}, seed {settings["run"]["seed"]}.

Labels{kind}: {", ".join(map(_escaped, data["label_names"]))}. A text is read up to {run["model"]["seq_len"]} tokens
(`long_text`: {settings["data"]["long_text"]})."""
    if data["name"] == SAMPLE:
        text += "\n\n> **Trained on the bundled sample, not on SST-2**: good for trying the program only."
    if problem_type in SINGLE_LABEL:
        low, high = (100 * bound for bound in evaluation["interval"])
        scaled = ""
        if TEMPERATURE in evaluation:
            before = 100 * evaluation["calibration_error_before"]
            scaled = f" ({before:.1f} % before the logits were divided by {evaluation[TEMPERATURE]:.3f})"
        results = f"""| accuracy | {100 * evaluation["accuracy"]:.1f} % (95 % interval {low:.1f}-{high:.1f}) |
| macro F1 | {100 * evaluation["f1"]:.1f} % |
| Matthews correlation | {evaluation["mcc"]:.3f} |
| calibration error | {100 * evaluation["calibration_error"]:.1f} %{scaled} |"""
    else:
        found = {title: evaluation[key] for key, (_, title) in METRICS.items() if key in evaluation}
        results = "\n".join(f"| {title} | {value:.3f} |" for title, value in found.items())
    table = f"""| {_escaped(data["validation_origin"])} | |
|---|---|
| examples | {evaluation["n"]} |
{results}
| loss | {evaluation["loss"]:.4f}{"" if problem_type == "regression" else " nats"} |"""
    is_about_films = set(_corpora(run)) <= ENGLISH
    if is_about_films and set(data["label_names"]) == set(SENTIMENT_LABELS):
        table += f"\n\n{LIMITS}"
    example = "a gripping film" if is_about_films else "a text to classify"
    return _card(run, "text-classification", evaluation, text, table, example)


def masked_lm_card(run: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    """Writes the model card of a masked language model, given its run.json and its numbers on held-out documents."""
    settings, training = run["config"], run["config"]["optimization"]
    text = f"""to predict masked tokens (rate {training["mask_rate"]}): {_pretraining(run)},
learning rate {training["learning_rate"]}, seed {settings["run"]["seed"]}. No labels were used."""
    masked = f"{numbers['n']:,} masked tokens ({EVALUATED_MASK_RATE:.0%}) of held-out documents"
    table = f"""| {masked} | this model | most frequent token, always |
|---|---|---|
| accuracy | {100 * numbers["accuracy"]:.1f} % | {100 * numbers["unigram_accuracy"]:.1f} % |
| loss in nats | {numbers["loss"]:.3f} | {numbers["unigram_loss"]:.3f} (token frequencies) |"""
    return _card(run, "fill-mask", {"accuracy": numbers["accuracy"]}, text, table, example="a [MASK] film")


def completed_card(folder: Path, repository: str, license: str | None, language: str | None) -> str:
    """Loads a model, as no broken one is uploaded, and completes its card for its place "owner/name" on the hub."""
    is_masked_lm = "MaskedLM" in str(read_json(folder / CONFIG).get("architectures"))
    (load_masked_lm if is_masked_lm else load_classifier)(folder)
    try:
        card: Any = ModelCard((folder / CARD).read_text(encoding="utf-8"))
    except Exception as error:  # OSError, YAML's own errors, ValueError
        raise CheckpointError(f"{folder / CARD} is no model card ({error}); write or correct it") from None
    card.data.license = license or card.data.get("license", "unknown")
    card.data.language = language or card.data.get("language")
    if card.data.license == "unknown":
        logger.info("license     unknown, says the card; name it with --license")
    return str(card).replace(FOLDER, repository)


def _card(run: Mapping[str, Any], task: str, numbers: Mapping[str, float], text: str, table: str, example: str) -> str:
    """Composes a card: a YAML header, by which the hub sorts, links and plots models, text, results and an example."""
    data, model = run["data"], run["model"]
    title = f"{FAMILIES[model['model_type']]} {model['num_hidden_layers']}/{model['hidden_size']} "
    title += f"{'on' if 'label_names' in data else 'pre-trained on'} {data['name']}"
    corpora = [name for stage in stages(run) for name in _corpora(stage)]
    bases = [stage["config"].get("model_name_or_path") for stage in stages(run)]
    origin = data.get("validation_origin", f"{data['name']}, held-out documents")
    layers = counted(model["num_hidden_layers"], "layer")
    split = re.search(r", split ([\w-]+)", origin)
    results = [(*METRICS[key], round(numbers[key], 4)) for key in METRICS if key in numbers]
    header = ModelCardData(
        language="en" if set(corpora) <= ENGLISH else None,
        license=OWN_LICENSE if bases[-1] is None else "unknown",
        library_name="transformers",
        pipeline_tag=task,
        tags=[model["model_type"]],
        base_model=next((base for base in bases if base is not None and HUB_ID.fullmatch(base)), None),
        datasets=[name for name in dict.fromkeys(corpora) if HUB_ID.fullmatch(name)] or None,
        metrics=[metric for metric, _, _ in results],
        model_name=title,
        eval_results=[
            EvalResult(task, corpora[0], origin, metric, value, metric_name=name, dataset_split=split and split[1])
            for metric, name, value in results
        ],
    )
    return f"""---
{header.to_yaml()}
---

# {_escaped(title)}

{model["parameters"]:,} parameters in {layers}, {model["hidden_size"]} wide, trained from
{_base(run)}
{text}
{_history(run)}
{table}

```python
from transformers import pipeline

pipe = pipeline("{task}", model="{FOLDER}")
print(pipe("{example}"))
```
"""


def _escaped(text: str) -> str:
    """Writes a name that came with the data so that Markdown and HTML show it as it is."""
    return re.sub(r"[\\`*_\[\]<>&|#]", r"\\\g<0>", printable(text))


def _corpora(stage: Mapping[str, Any]) -> list[str]:
    """Names what a training read, by the hub's names where it has them."""
    names = (part.rpartition(":")[0] or part for part in stage["data"]["name"].split(" + "))
    return [HUB_NAMES.get(name, name) for name in names]


def _base(run: Mapping[str, Any]) -> str:
    """Names what the weights were before a training; of a folder the last part, for its place is private."""
    name = run["config"].get("model_name_or_path") or "random weights"
    return str(name) if HUB_ID.fullmatch(name) else _escaped(Path(name).name)


def _history(run: Mapping[str, Any]) -> str:
    """Lists the pre-trainings before a training, the first one first."""
    earlier = list(stages(run))[:0:-1]
    if not earlier:
        return ""
    lines = [f"{number}. {_pretraining(stage)}\n" for number, stage in enumerate(earlier, start=1)]
    first = f"Pre-trained before, without labels, to predict masked tokens, from {_base(earlier[0])}:"
    return f"\n{first}\n\n{''.join(lines)}"


def _pretraining(stage: Mapping[str, Any]) -> str:
    data, settings = stage["data"], stage["config"]
    training, seq_len = settings["optimization"], settings["tokenization"]["seq_len"]
    return f"""{training["max_steps"]:,} steps of {training["batch_size"]} rows of {seq_len} tokens
   of {_escaped(data["name"])} ({data["documents"]:,} documents, {data["train"]:,} tokens)"""
