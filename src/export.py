"""Write a model as ONNX, or upload it to the Hugging Face hub: `python -m src.export --help` lists every option."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from src.utils.cli import parse, run_program
from src.utils.errors import UsageError, notice
from src.utils.programs import ExportConfig

if TYPE_CHECKING:
    from src.data.dataset import DSCreator
    from src.interop.huggingface import Classifier

PROGRAM = "python -m src.export"


def main(arguments: list[str]) -> None:
    """Parses the command line, then exports or uploads."""
    config = parse(ExportConfig, arguments, PROGRAM)
    if config.output is not None:
        _export(config, config.output)
    elif config.push_to_hub is not None:
        _upload(config, config.push_to_hub)


def _export(config: ExportConfig, output: Path) -> None:
    # Not above: --help should not wait for PyTorch.

    from src.interop.huggingface import load_classifier
    from src.interop.onnx import require_exporter, save_onnx, save_quantized
    from src.utils.device import set_up_device
    from src.utils.files import new_folder

    require_exporter()
    _refuse_taken(output, config.overwrite)
    set_up_device("cpu", config.num_threads)
    classifier = load_classifier(folder := _model_folder(config))
    if classifier.long_text != "truncate":
        notice(
            f"long texts  the model reads them by {classifier.long_text}; its tokenizer.json alone cuts their end off"
        )
    measured = None if config.quantize is None else _measured(config, folder, classifier)
    with new_folder(output) as temporary:
        lines = [f"largest difference from the model's logits: {save_onnx(temporary, classifier):.1g}"]
        if measured is not None:
            save_quantized(temporary)
            lines += _accuracies(temporary, classifier, *measured)
    for path in sorted(output.glob("*.onnx")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print("\n".join(lines))


def _refuse_taken(output: Path, overwrite: bool) -> None:
    from src.interop.onnx import is_export

    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_export(output):
        raise UsageError(
            f"{output} exists and holds more than an export, so it is never replaced; choose another --output"
        )
    if not overwrite:
        raise UsageError(f"{output} exists; choose another --output, or --overwrite")


def _model_folder(config: ExportConfig) -> Path:
    from src.utils.runs import newest_classifier

    folder = config.model_folder[0] if config.model_folder else newest_classifier()
    notice(f"checkpoint  {folder}")
    return folder


def _measured(config: ExportConfig, folder: Path, classifier: "Classifier") -> tuple[str, "DSCreator"]:
    """Opens the split to measure accuracy on, before the export that takes longer."""
    from src.evaluation.predictor import labelled_dataset
    from src.evaluation.split import open_split

    split = open_split(folder, config, classifier.label_names).splits[config.split]
    return split.origin, labelled_dataset(classifier, split.texts, split.labels, split.pairs)


def _accuracies(folder: Path, classifier: "Classifier", origin: str, dataset: "DSCreator") -> Iterator[str]:
    """Evaluates both graphs of an export; yields a line for each, and one on how often they agree."""
    import torch

    from src.evaluation.metrics import evaluate
    from src.evaluation.predictor import classify
    from src.interop.onnx import GRAPH, QUANTIZED, OnnxModel

    answers = []
    yield f"{origin}:"
    for kind, name in (("float32", GRAPH), ("int8", QUANTIZED)):
        logits = classify(OnnxModel(folder / name), dataset, torch.device("cpu"))
        evaluation = evaluate(logits, dataset.text_labels, classifier.label_names)
        answers.append(logits.argmax(-1))
        yield f"{kind:<7}  {evaluation.as_text().splitlines()[0]}"
    same = int((answers[0] == answers[1]).sum())
    yield f"both give the same answer to {same:,} of {len(answers[0]):,} texts"


def _upload(config: ExportConfig, repository: str) -> None:
    from src.interop.upload import upload

    print(upload(_model_folder(config), repository, config.license, config.language, config.private))


if __name__ == "__main__":
    run_program(main)
