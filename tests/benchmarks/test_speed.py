import json

import pytest
import torch

from src.interop.huggingface import load_classifier
from tests.benchmarks import speed
from tests.benchmarks.contenders import OursInInference, OursInTraining, PaddedInTraining, TorchInInference, Work
from tests.benchmarks.readme import BENCHMARKS, FRONT_PAGE, section
from tests.benchmarks.speed import checkpoint


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("speed")
    checkpoint("tiny", folder, None)
    return Work(folder, "sample", batches=2, sentences=20, seed=0)


def test_contenders_start_from_the_same_weights_and_count_the_same_tokens(work: Work) -> None:
    torch.set_num_threads(1)
    training = [kind(work) for kind in (OursInTraining, PaddedInTraining)]
    inference = [kind(work) for kind in (OursInInference, TorchInInference)]
    for first, second in (training, inference):
        assert second.result() == pytest.approx(first.result(), abs=speed.SAME)
    ours, padded = (contender.round() for contender in training)
    assert 0 < padded.tokens < 80 * padded.sentences == 80 * 2 * 16  # what is padded does not count
    assert ours.tokens > ours.sentences
    lengths = load_classifier(work.folder).tokenizer.encode_batch(inference[0].train.texts)
    assert min(len(one.ids) for one in lengths) * 20 < inference[0].round().tokens < 64 * 20


def test_flops_are_those_of_the_matrix_products(work: Work) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    contender = OursInInference(work)
    texts = contender.train.texts[:7]
    ids = contender.predictor.classifier.dataset(texts).input_ids
    lengths = [len(row) for row in ids]
    with FlopCounterMode(display=False) as counter:
        for row in ids:
            contender.predictor.model(row[None])
    assert contender.count(lengths, 1.0, passes=1).flops == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_what_is_in_the_repository_is_what_was_measured() -> None:
    found = json.loads(speed.RESULTS.read_text())
    assert speed.TABLE.read_text() == speed.tables(found)
    assert section(BENCHMARKS, "speed") == speed.summary(found)
    assert section(FRONT_PAGE, "speed") == speed.front_page(found)
    assert all(list(one) == [comparison.title for comparison in speed.COMPARISONS] for one in found.values())
