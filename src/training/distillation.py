"""Knowledge distillation: a student learns how likely a teacher finds each class of a text (Hinton et al. 2015)."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.data.documents import open_documents, sentences
from src.data.sources import TextSplit
from src.evaluation.predictor import classify
from src.interop.config import unnamed_labels
from src.interop.huggingface import fetch, load_classifier
from src.utils.config import SINGLE_LABEL
from src.utils.errors import CheckpointError, UsageError
from src.utils.files import cached_folder

logger = logging.getLogger(__name__)

LOGITS = "teacher_logits.safetensors"


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Computes T^2 KL(softmax(v / T) || softmax(z / T)), summed over the batch (Hinton et al. 2015, section 2).

    z are the student's logits and v the teacher's, both (B, C). T^2 undoes that gradients shrink by 1 / T^2.
    """
    student = F.log_softmax(logits / temperature, dim=-1)  # (B, C)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=-1)  # (B, C)
    return temperature**2 * F.kl_div(student, teacher, reduction="sum", log_target=True)


def with_unlabelled(train: TextSplit, others: Sequence[TextSplit], sources: Sequence[str]) -> TextSplit:
    """Appends those sentences of unlabelled sources that no split has to labelled texts; their label is -1."""
    if train.pairs is not None:
        raise UsageError("--unlabelled holds single texts, --text-pair-column asks for pairs; give one of them")
    documents = open_documents(sources)
    known = {text.lower() for split in (train, *others) for text in split.texts}
    more = [sentence for _, sentence in sentences(documents.read()) if sentence.lower() not in known]
    logger.info(f"unlabelled  {len(more):,} sentences of {documents.name}")
    return replace(train, texts=[*train.texts, *more], labels=[*train.labels, *([-1] * len(more))])


def teacher_logits(
    teacher: str, split: TextSplit, label_names: Sequence[str], cache: Path, device: torch.device, bf16: bool
) -> tuple[Tensor, str]:
    """Returns a teacher's logits of texts, float16 (N, C) on the CPU and cached, and a digest of all they depend on."""
    folder = fetch(teacher)
    classifier = load_classifier(folder)
    if (kind := classifier.model.config.problem_type) not in SINGLE_LABEL:
        raise UsageError(f"--teacher {teacher} is of {kind}; name a classifier of one class of several")
    if classifier.label_names not in (tuple(label_names), unnamed_labels(len(label_names))):
        raise UsageError(
            f"--teacher {teacher} knows the classes {', '.join(classifier.label_names)}, "
            f"the data {', '.join(label_names)}; they must be the same, in the same order"
        )
    reading = (classifier.tokenizer.to_str(), classifier.seq_len, classifier.long_text, classifier.model.config, bf16)
    digest = hashlib.sha256(repr((split.texts, split.pairs, reading)).encode("utf-8", "replace"))
    for tensor in classifier.model.state_dict().values():
        digest.update(tensor.numpy())
    place = cache / f"teacher-{digest.hexdigest()[:16]}"
    with cached_folder(place) as unfinished:
        if unfinished is not None:
            logger.info(f"teacher     labels {len(split.texts):,} texts, kept in {place}")
            dataset = classifier.dataset(split.texts, pairs=split.pairs)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = classify(classifier.model.to(device), dataset, device).half()
            if not logits.isfinite().all():
                raise CheckpointError(f"--teacher {teacher} gives logits beyond float16; name another")
            save_file({"logits": logits}, unfinished / LOGITS)
    return load_file(place / LOGITS)["logits"], digest.hexdigest()
