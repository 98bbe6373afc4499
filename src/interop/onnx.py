"""A classifier as an ONNX graph: exported, compared with our own logits, and on request with 8-bit weights."""

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

from src.data.tokenizer import special_token_ids
from src.interop.config import to_hugging_face_config
from src.interop.huggingface import CONFIG, Classifier
from src.interop.tokenizer import TOKENIZER, TOKENIZER_CONFIG, save_tokenizer
from src.model.bert import BertForSequenceClassification
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError
from src.utils.files import MANIFEST, write_json

GRAPH, QUANTIZED = "model.onnx", "model_int8.onnx"
TOLERANCE = 1e-5


class OnnxModel(nn.Module):
    """A graph that ONNX Runtime computes on the CPU, called like our own classifier."""

    def __init__(self, path: Path):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input_names = [each.name for each in self.session.get_inputs()]  # without segments in some families

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Maps token ids, int64 (B, T), to logits, float (B, C), as `BertForSequenceClassification.forward` does."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        inputs = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": segments}
        (logits,) = self.session.run(None, {name: inputs[name].numpy() for name in self.input_names})
        return torch.from_numpy(np.asarray(logits))


def save_onnx(folder: Path, classifier: Classifier) -> float:
    """Writes a classifier as a graph of any batch and length; returns the largest difference from our logits."""
    config, batch = classifier.model.config, _random_batch(classifier.model.config, 2, 3)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=config.longest_sequence)}
    with _quiet():
        torch.onnx.export(
            classifier.model,
            kwargs=batch,
            f=folder / GRAPH,
            input_names=list(batch),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(batch, axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    write_json(folder / CONFIG, to_hugging_face_config(config, "classifier", classifier.label_names))
    # The tokenizer cuts and pads by itself, for programs that know no more than its file.
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str())
    tokenizer.enable_truncation(classifier.seq_len)
    if (pad_id := special_token_ids(tokenizer).get("pad_token")) is not None:
        tokenizer.enable_padding(pad_id=pad_id, pad_token=str(tokenizer.id_to_token(pad_id)))
    save_tokenizer(folder, tokenizer, config, classifier.seq_len, classifier.long_text)
    return _largest_difference(folder / GRAPH, classifier.model)


def save_quantized(folder: Path) -> None:
    """Adds a graph with 8-bit weights to a folder that `save_onnx` wrote; activations are quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), TemporaryDirectory() as scratch:
        prepared = Path(scratch) / GRAPH
        quant_pre_process(folder / GRAPH, prepared, skip_symbolic_shape=True)
        # Seven bits of the eight: with all of them, sums overflow on CPUs that have AVX2 but not VNNI.
        quantize_dynamic(prepared, folder / QUANTIZED, weight_type=QuantType.QInt8, reduce_range=True)


def is_export(folder: Path) -> bool:
    """Tells whether a folder holds an export and nothing else, so that another one may take its place."""
    files = {GRAPH, QUANTIZED, CONFIG, TOKENIZER, TOKENIZER_CONFIG, MANIFEST}
    return folder.is_dir() and {file.name for file in folder.iterdir()} <= files


def _random_batch(config: BertConfig, B: int, T: int) -> dict[str, Tensor]:
    """Draws token ids of the whole vocabulary, padded on the right, with segments where the model has them."""
    random = torch.Generator().manual_seed(0)
    ends = torch.randint(1, T + 1, (B, 1), generator=random)
    batch = {
        "input_ids": torch.randint(config.vocab_size, (B, T), generator=random),
        "attention_mask": (torch.arange(T) < ends).long(),
    }
    if config.type_vocab_size > 1:
        batch["token_type_ids"] = torch.randint(config.type_vocab_size, (B, T), generator=random)
    return batch


@torch.inference_mode()
def _largest_difference(path: Path, model: BertForSequenceClassification) -> float:
    graph, longest, differences = OnnxModel(path), model.config.longest_sequence, []
    for B, T in ((1, 1), (13, min(7, longest)), (2, longest)):
        batch = _random_batch(model.config, B, T)
        expected = model(**batch)
        differences.append(float((graph(**batch) - expected).abs().max()))
        # Rounding grows with the numbers: a BERT base whose logits reach 10 differs by 1e-5 from itself in float64.
        allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not differences[-1] <= allowed:  # NaN is a difference, too
            what = f"the ONNX graph's logits differ from the model's by {differences[-1]:.1g}, more than {allowed:.1g}"
            raise CheckpointError(f"{what}; nothing was written: install the versions in tests/requirements.txt")
    return max(differences)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from the user what exporter and quantizer tell their own developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
