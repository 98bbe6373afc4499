"""Self-training: a classifier labels texts that nobody labelled, and the next one learns from those.

A teacher that knows few words is right about most long texts all the same, since it needs to know only some of their
words; from its labels a student learns what the other words mean (Scudder 1965; Du et al. 2021).
"""

from dataclasses import replace

from src.data.documents import chain, open_documents
from src.data.sources import Corpus, TextSplit
from src.evaluation.predictor import Predictor
from src.interop.pretrained import fetch
from src.training.setup import draw
from src.utils.config import TrainConfig
from src.utils.errors import CheckpointError, DataError, notice


def taught(corpus: Corpus, config: TrainConfig) -> Corpus:
    """Puts texts that a teacher has labelled in the place of the training split.

    Args:
        corpus: with the split "train".
        config: names teacher and texts; --max-train-samples of them are drawn before they are labelled, and the
            teacher reads long ones as the student will.

    Returns:
        The corpus, named after the texts; unchanged if no teacher is named.

    Raises:
        CheckpointError: the teacher cannot be used, or knows other classes.
        DataError: the texts cannot be read, or the teacher is sure of none.
    """
    data = config.data
    if data.teacher is None:
        return corpus
    teacher = Predictor.load(fetch(data.teacher), config.run.device)
    if teacher.classifier.label_names != corpus.label_names:
        theirs, ours = ", ".join(teacher.classifier.label_names), ", ".join(corpus.label_names)
        raise CheckpointError(f"{data.teacher} knows the classes {theirs}, {corpus.name} {ours}; name another teacher")
    teacher.classifier = replace(teacher.classifier, long_text=config.tokenization.long_text)
    documents = chain(open_documents(source, data.text_column) for source in data.unlabelled)
    texts = list(documents.read())
    drawn = draw(TextSplit(texts, [0] * len(texts), documents.name), data.max_train_samples, config.run.seed)
    notice(f"labelling   {len(drawn.texts):,} of {len(texts):,} texts of {documents.name}")
    sure, labels = teacher.logits(teacher.dataset(drawn.texts)).softmax(-1).max(-1)
    kept = (sure >= data.teacher_confidence).nonzero().flatten().tolist()
    if not kept:
        raise DataError(f"{data.teacher} is sure of no text of {documents.name}; lower --teacher-confidence")
    split = TextSplit(
        [drawn.texts[row] for row in kept], labels[kept].tolist(), f"{documents.name}, as the teacher labels them"
    )
    return replace(corpus, name=documents.name, splits=corpus.splits | {"train": split})
