"""A classifier as an ONNX graph: exported, held against our own logits, and on request with 8-bit weights beside it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from src.data.tokenizer import roles
from src.interop.configs import to_hugging_face_config
from src.interop.huggingface import CONFIG, Classifier
from src.interop.tokenizer_files import ReadingSettings, save_tokenizer
from src.model.bert import BertForSequenceClassification
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError, require_packages
from src.utils.files import MANIFEST, read_json, write_json

GRAPH, QUANTIZED = "model.onnx", "model_int8.onnx"
TOLERANCE = 1e-5
# What the exporter traces; the dimensions it calls "batch" and "length" take any number afterwards.
TRACED = (2, 3)


class OnnxModel(nn.Module):
    """A graph that ONNX Runtime computes on the CPU, called like our own classifier.

    Args:
        path: the graph.
    """

    def __init__(self, path: Path):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.has_segments = len(self.session.get_inputs()) == 3

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Maps token ids, int64 (B, T), to logits, float (B, C), as `BertForSequenceClassification.forward` does."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if self.has_segments:
            inputs["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        (logits,) = self.session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(np.asarray(logits))


def require_exporter() -> None:
    """Refuses to go on without the packages that writing a graph takes.

    Raises:
        UsageError: some are not installed.
    """
    require_packages("ONNX export", "onnx", "onnxscript", "onnxruntime")


def save_onnx(folder: Path, classifier: Classifier) -> float:
    """Writes a classifier as a graph of any batch and length, with config and tokenizer, and verifies the graph.

    Args:
        folder: exists; a temporary one, since what fails the comparison is written by then.
        classifier: on the CPU, in evaluation mode.

    Returns:
        The largest difference between the graph's logits and ours.

    Raises:
        CheckpointError: a logit differs by more than 1e-5, or 1e-5 of the largest one where that exceeds 1.
    """
    _export(folder / GRAPH, classifier.model)
    write_json(folder / CONFIG, to_hugging_face_config(classifier.model.config, "classifier", classifier.label_names))
    _save_tokenizer(folder, classifier)
    return _compared(folder / GRAPH, classifier.model)


def is_export(folder: Path) -> bool:
    """Tells whether a folder holds an export and nothing else, so that another one may take its place."""
    if not (folder / MANIFEST).is_file():
        return False
    listed = read_json(folder / MANIFEST)
    return GRAPH in listed and {file.name for file in folder.iterdir()} <= {MANIFEST, *listed}


def save_quantized(folder: Path) -> None:
    """Writes a graph with 8-bit weights beside the one in a folder; activations are quantized as they come.

    Args:
        folder: holds the graph that `save_onnx` wrote.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), TemporaryDirectory() as scratch:
        prepared = Path(scratch) / GRAPH
        quant_pre_process(folder / GRAPH, prepared, skip_symbolic_shape=True)
        # Seven bits of the eight: with all of them, sums overflow on CPUs that have AVX2 but not VNNI.
        quantize_dynamic(prepared, folder / QUANTIZED, weight_type=QuantType.QInt8, reduce_range=True)


def _export(path: Path, model: BertForSequenceClassification) -> None:
    batch = _random_batch(model.config, *TRACED)
    longest = torch.export.Dim("length", max=model.config.longest_sequence)
    axes = {0: torch.export.Dim("batch"), 1: longest}
    with _quiet():
        torch.onnx.export(
            model,
            kwargs=batch,
            f=path,
            input_names=list(batch),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(batch, axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _random_batch(shape: BertConfig, B: int, T: int) -> dict[str, Tensor]:
    """Draws token ids of the whole vocabulary, padded on the right, with segments where the model has them."""
    random = torch.Generator().manual_seed(0)
    ends = torch.randint(1, T + 1, (B, 1), generator=random)
    batch = {
        "input_ids": torch.randint(shape.vocab_size, (B, T), generator=random),
        "attention_mask": (torch.arange(T) < ends).long(),
    }
    if shape.type_vocab_size > 1:
        batch["token_type_ids"] = torch.randint(shape.type_vocab_size, (B, T), generator=random)
    return batch


def _save_tokenizer(folder: Path, classifier: Classifier) -> None:
    """Writes the tokenizer so that it cuts and pads by itself, for programs that know no more than its file."""
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str())
    tokenizer.enable_truncation(classifier.seq_len)
    if (pad := roles(tokenizer).get("pad")) is not None:
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    reading = ReadingSettings(classifier.seq_len, classifier.long_text)
    save_tokenizer(folder, tokenizer, reading, has_segments=classifier.model.config.type_vocab_size > 1)


@torch.inference_mode()
def _compared(path: Path, model: BertForSequenceClassification) -> float:
    graph, longest = OnnxModel(path), model.config.longest_sequence
    largest = 0.0
    for B, T in ((1, 1), (13, min(7, longest)), (5, min(64, longest)), (2, longest)):
        batch = _random_batch(model.config, B, T)
        expected = model(**batch)
        difference = float((graph(**batch) - expected).abs().max())
        # Rounding grows with the numbers: a BERT base whose logits reach 10 differs by 1e-5 from itself in float64.
        allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not difference <= allowed:  # NaN is a difference, too
            raise CheckpointError(
                f"the ONNX graph's logits differ from the model's by {difference:.1g} for {B} texts of {T} tokens, "
                f"more than {allowed:.1g}; nothing was written: install the versions in tests/requirements.txt"
            )
        largest = max(largest, difference)
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from the user what exporter and quantizer tell their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
