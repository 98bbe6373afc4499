import pytest
import torch

from src.interop.huggingface import load_classifier
from tests.benchmarks import speed
from tests.benchmarks.contenders import OursInInference, OursInTraining, TorchInInference, TorchInTraining, Work
from tests.benchmarks.where_time_goes import PARTS, REST, shares


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("speed")
    speed.checkpoint("tiny", folder, None)
    return Work(folder, "sample", batches=2, sentences=20, seed=0)


def test_contenders_start_from_the_same_weights_and_count_real_tokens(work: Work) -> None:
    training = [kind(work) for kind in (OursInTraining, TorchInTraining)]
    inference = [kind(work) for kind in (OursInInference, TorchInInference)]
    for first, second in (training, inference):
        assert second.result() == pytest.approx(first.result(), abs=speed.SAME)
    ours, theirs = (contender.round() for contender in training)
    assert ours.sentences < ours.tokens == theirs.tokens
    lengths = load_classifier(work.folder).tokenizer.encode_batch(inference[0].train.texts)
    assert min(len(one.ids) for one in lengths) * 20 < inference[0].round().tokens < 64 * 20


def test_flops_are_those_of_the_matrix_products(work: Work) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    contender = OursInInference(work)
    ids = contender.predictor.classifier.dataset(contender.train.texts[:7]).input_ids
    with FlopCounterMode(display=False) as counter:
        for row in ids:
            contender.predictor.model(row[None])
    found = contender.count([len(row) for row in ids], 1.0, passes=1).flops
    assert found == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_shares_of_a_training_add_up_to_one(work: Work) -> None:
    found = shares(OursInTraining(work, recipe=None))  # which keeps an average of weights
    assert list(found) == [*PARTS, REST] and sum(found.values()) == pytest.approx(1)
    assert all(found[part] > 0 for part in PARTS)
