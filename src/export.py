"""Write a model as ONNX, or upload it to the Hugging Face hub: `python -m src.export --help` lists every option."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.utils.cli import parse, run_program
from src.utils.config import NOT_NEGATIVE, EvaluatedData, require
from src.utils.errors import StorageError, UsageError, require_packages

PROGRAM = "python -m src.export"
logger = logging.getLogger("src.export")


@dataclass(frozen=True)
class ExportConfig(EvaluatedData):
    """Write a trained classifier as an ONNX graph that equals it, or upload a model folder to the Hugging Face hub."""

    model_folder: tuple[Path, ...]
    """Folder this project or transformers wrote; unset: the newest classifier under weights/, else the shipped one."""
    output: Path | None = None
    """Write graph, config.json and tokenizer to this new folder, which appears if its logits are the model's."""
    overwrite: bool = False
    """Replace an export that --output holds."""
    quantize: Literal["int8"] | None = None
    """Also write the graph with 8-bit weights (dynamic quantization), and print the accuracy of both."""
    push_to_hub: str | None = None
    """Upload the model folder, with its card, to this repository of the hub, OWNER/NAME."""
    private: bool = False
    """Make a new repository private."""
    license: str | None = None
    """License that the uploaded card names, as the hub spells it (apache-2.0); unset: what the folder's card says."""
    language: str | None = None
    """Language that the uploaded card names, such as en; unset: what the folder's card says."""

    num_threads: int = 0
    """CPU threads to compute with; 0 leaves PyTorch's own choice."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(self, NOT_NEGATIVE, "num_threads")
        if len(self.model_folder) > 1:
            raise UsageError(f"{len(self.model_folder)} model folders are named; give one")
        if (self.output is None) == (self.push_to_hub is None):
            raise UsageError("--output writes an ONNX graph, --push-to-hub uploads the model; give one of them")
        if self.quantize is None and (self.dataset or self.split != "validation" or self.table_options):
            raise UsageError("data is named to measure what --quantize int8 costs; add it, or drop the options of data")
        if self.output is None and (self.quantize is not None or self.overwrite):
            raise UsageError("--quantize and --overwrite go with --output; an upload takes the model folder as it is")
        if self.push_to_hub is None and (self.private or self.license is not None or self.language is not None):
            raise UsageError("--private, --license and --language go with --push-to-hub; drop them")


def main(arguments: list[str]) -> None:
    """Parses the command line, then exports or uploads."""
    from src.utils.runs import newest_model

    config = parse(ExportConfig, arguments, PROGRAM)
    folder = config.model_folder[0] if config.model_folder else newest_model()
    logger.info(f"checkpoint  {folder}")
    if config.output is not None:
        export(folder, config.output, config)
    elif config.push_to_hub is not None:
        print(upload(folder, config.push_to_hub, config))


def export(folder: Path, output: Path, config: ExportConfig) -> None:
    """Writes a classifier as ONNX, then prints the size of each graph, and with --quantize the accuracy of both."""
    # Not above: --help should not wait for PyTorch.
    import torch

    from src.evaluation.metrics import EVALUATIONS, Evaluation
    from src.evaluation.predictions import open_split
    from src.evaluation.predictor import classify
    from src.interop.huggingface import load_classifier
    from src.interop.onnx import GRAPH, QUANTIZED, OnnxModel, is_export, save_onnx, save_quantized
    from src.utils.device import set_up_device
    from src.utils.files import new_folder

    require_packages("ONNX export", "onnx", "onnxscript", "onnxruntime")
    if output.exists() and not (config.overwrite and is_export(output)):
        raise UsageError(f"{output} exists; choose another --output, or --overwrite it if it holds an export alone")
    set_up_device("cpu", config.num_threads)
    classifier = load_classifier(folder)
    if classifier.long_text != "truncate":
        how = classifier.long_text
        logger.info(f"long texts  tokenizer.json alone cuts their end off; the model reads them by {how}")
    if config.quantize is not None:  # opened first, for the export takes longer
        split = open_split(folder, config, classifier).splits[config.split]
        dataset = classifier.dataset(split.texts, split.labels, split.pairs)
    with new_folder(output) as temporary:
        lines = [f"largest difference from the model's logits: {save_onnx(temporary, classifier):.1g}"]
        if config.quantize is not None:
            save_quantized(temporary)
            lines.append(f"{split.origin}:")
            graphs = [OnnxModel(temporary / name) for name in (GRAPH, QUANTIZED)]
            logits = [classify(graph, dataset, torch.device("cpu")) for graph in graphs]
            for kind, found in zip(("float32", "int8"), logits, strict=True):
                _, evaluate = EVALUATIONS[classifier.model.config.problem_type]
                evaluation = evaluate(found, dataset.text_labels, classifier.label_names)
                lines.append(f"{kind:<7}  {evaluation.as_text().splitlines()[0]}")
            if isinstance(evaluation, Evaluation):
                same = int((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
                lines.append(f"both predict the same class for {same:,} of {len(dataset.text_labels):,} texts")
    for path in sorted(output.glob("*.onnx")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print("\n".join(lines))


def upload(folder: Path, repository: str, config: ExportConfig) -> str:
    """Uploads a model's own files and its card, nothing else of a run, in one commit; returns the address."""
    import huggingface_hub

    from src.data.hub import HUB_ID
    from src.interop.huggingface import FILES
    from src.interop.model_card import completed_card
    from src.utils.files import CARD

    if not HUB_ID.fullmatch(repository):
        raise UsageError(f"--push-to-hub {repository} is no repository's name; write OWNER/NAME")
    card = completed_card(folder, repository, config.license, config.language)
    if huggingface_hub.get_token() is None:
        raise UsageError("no token of the hub is configured; run hf auth login, or set HF_TOKEN")
    api = huggingface_hub.HfApi()
    additions = [
        huggingface_hub.CommitOperationAdd(CARD, card.encode()),
        *(huggingface_hub.CommitOperationAdd(file.name, file) for name in FILES for file in sorted(folder.glob(name))),
    ]
    try:
        address = api.create_repo(repository, private=config.private or None, exist_ok=True)
        api.create_commit(repository, additions, commit_message="Upload the model")
    except Exception as error:  # the library's errors have no common base
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        what = f"cannot upload to {api.endpoint}/{repository} ({reason})"
        raise StorageError(f"{what}; check network, name, and the token's rights") from None
    return str(address)


if __name__ == "__main__":
    run_program(main)
