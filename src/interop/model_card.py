"""README.md of a model folder: the model card, in the Hugging Face hub's format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data.hub import HUB_ID
from src.interop.card_header import card_header
from src.utils.config import EVALUATED_MASK_RATE, SAMPLE
from src.utils.runs import stages

FAMILIES = {"bert": "BERT", "distilbert": "DistilBERT", "roberta": "RoBERTa"}

# Names in the hub's header to those of an evaluation.
RESULTS = {"accuracy": "accuracy", "f1": "f1", "matthews_correlation": "mcc"}
PLACE = "path/to/this/folder"  # the examples' own, until the folder has a place on the hub

SAMPLE_WARNING = """
> **Trained on the bundled sample, not on SST-2.** A few hundred sentences, good 
> for trying the program only.
"""

USAGE = f"""```python
from transformers import pipeline

classify = pipeline("text-classification", model="{PLACE}")
print(classify("a gripping film"))
```
"""


def classifier_card(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Writes the model card of a classifier.

    Args:
        run: the content of run.json.
        evaluation: the numbers of the delivered model on the validation split, fractions in [0, 1].

    Returns:
        Markdown with a YAML header.
    """
    results = {name: evaluation[key] for name, key in RESULTS.items()}
    header = card_header(run, "text-classification", _title(run), results)
    return "\n\n".join([header, _description(run), _numbers(run, evaluation), USAGE])


def _title(run: Mapping[str, Any]) -> str:
    data, model = run["data"], run["model"]
    training = " on" if "label_names" in data else ", pre-trained on"
    return (
        f"{FAMILIES[model['model_type']]} {model['num_hidden_layers']}/{model['hidden_size']}{training} {data['name']}"
    )


def _description(run: Mapping[str, Any]) -> str:
    data, model, config = run["data"], run["model"], run["config"]
    layers, width, training = model["num_hidden_layers"], model["hidden_size"], config["optimization"]
    return f"""# {_title(run)}
{SAMPLE_WARNING if data["name"] == SAMPLE else ""}
{model["parameters"]:,} parameters in {layers} layers, {width} wide, trained from
{_beginning(run)}
on {data["train"]:,} examples of {data["name"]}:
{training["epochs"]} epochs, about {training["batch_size"]} sentences a batch,
learning rate {training["learning_rate"]}, seed {config["run"]["seed"]}.
{_history(run)}
Labels: {", ".join(data["label_names"])}. A text is read up to {model["seq_len"]} tokens
(`long_text`: {config["tokenization"]["long_text"]})."""


def _beginning(run: Mapping[str, Any]) -> str:
    """Names what the weights were before a training."""
    name = run["config"].get("model_name_or_path")
    if name is None:
        return "random weights"
    # Of a folder the last part: where it lay is nobody's business.
    return str(name) if HUB_ID.fullmatch(name) else Path(name).name


def _history(run: Mapping[str, Any]) -> str:
    """Tells of the pre-trainings before a training, the first one first; nothing if there were none here."""
    earlier = list(stages(run))[:0:-1]
    if not earlier:
        return ""
    lines = [
        f"{number}. {stage['config']['optimization']['max_steps']:,} steps of "
        f"{stage['config']['optimization']['batch_size']} rows of {stage['config']['tokenization']['seq_len']} tokens "
        f"of {stage['data']['name']} ({stage['data']['documents']:,} documents, {stage['data']['train']:,} tokens)"
        for number, stage in enumerate(earlier, start=1)
    ]
    start = f"Pre-trained before, without labels, to predict masked tokens, from {_beginning(earlier[0])}:"
    return "\n".join(["", start, "", *lines, ""])


def _numbers(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in evaluation["interval"])
    return f"""| {run["data"]["validation_origin"]} | |
|---|---|
| examples | {evaluation["n"]} |
| accuracy | {100 * evaluation["accuracy"]:.1f} % (95 % interval {low:.1f}-{high:.1f}) |
| macro F1 | {100 * evaluation["f1"]:.1f} % |
| Matthews correlation | {evaluation["mcc"]:.3f} |
| loss | {evaluation["loss"]:.4f} nats |"""


def masked_lm_card(run: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    """Writes the model card of a masked language model.

    Args:
        run: the content of run.json.
        numbers: those of the delivered model on held-out documents.

    Returns:
        Markdown with a YAML header.
    """
    data, model, config = run["data"], run["model"], run["config"]
    layers, width, training = model["num_hidden_layers"], model["hidden_size"], config["optimization"]
    masked = f"{numbers['n']:,} masked tokens ({EVALUATED_MASK_RATE:.0%}) of held-out documents"
    return f"""{card_header(run, "fill-mask", _title(run), {"accuracy": numbers["accuracy"]})}

# {_title(run)}

{model["parameters"]:,} parameters in {layers} layers, {width} wide, trained from
{_beginning(run)}
to predict masked tokens (rate {training["mask_rate"]}) of {data["documents"]:,} documents, {data["train"]:,} tokens,
in rows of {config["tokenization"]["seq_len"]}: {training["max_steps"]:,} steps of {training["batch_size"]} rows,
learning rate {training["learning_rate"]}, seed {config["run"]["seed"]}. No labels were used.
{_history(run)}
| {masked} | this model | most frequent token, always |
|---|---|---|
| accuracy | {100 * numbers["accuracy"]:.1f} % | {100 * numbers["unigram_accuracy"]:.1f} % |
| loss in nats | {numbers["loss"]:.3f} | {numbers["unigram_loss"]:.3f} (token frequencies) |

```python
from transformers import pipeline

fill = pipeline("fill-mask", model="{PLACE}")
print(fill("a [MASK] film"))
```
"""
