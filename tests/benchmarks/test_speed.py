import json
from typing import Any

import pytest
import torch

from src.interop.huggingface import load_classifier
from tests.benchmarks import speed
from tests.benchmarks.contenders import OursInInference, OursInTraining, PaddedInTraining, TorchInInference, Work
from tests.benchmarks.readme import README
from tests.benchmarks.speed import OURS, checkpoint, table


def rounds(*rates: float) -> list[dict[str, float]]:
    return [{"tokens": 100.0, "sentences": 10, "seconds": 100 / rate, "flops": 2e9} for rate in rates]


FOUND: dict[str, Any] = {
    "versions": {"torch": "9.9"},
    "peaks": {"square": [4e9, 5e9, 6e9], "model": [8e9], "by default": [3e9]},
    "contenders": {
        OURS: {"rounds": rounds(200, 300, 250), "megabytes": 700.4},
        "a peer": {"rounds": rounds(100, 100, 125), "megabytes": 1200},
        "another": {"missing": "speedy is not installed", "rounds": []},
    },
}


def test_the_table_names_peers_that_are_missing() -> None:
    lines = table("mini, training", FOUND).splitlines()
    assert lines[2].startswith(f"| {OURS} | 250 | 200-300 | 25 | 700 MB | 100 % (62 % of 8) |")
    assert lines[3].endswith("| **2.50x** (2.00-3.00) |")  # of medians, with the range over rounds
    assert lines[4].startswith("| another | not measured: speedy is not installed |")
    assert {line.count("|") for line in lines[:-2]} == {8}


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
    ids = contender.predictor.dataset(texts).input_ids
    lengths = [len(row) for row in ids]
    with FlopCounterMode(display=False) as counter:
        for row in ids:
            contender.predictor.model(row[None])
    assert contender.count(lengths, 1.0, passes=1).flops == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_what_is_in_the_repository_is_what_was_measured() -> None:
    found = json.loads(speed.RESULTS.read_text())
    assert speed.TABLE.read_text() == speed.tables(found)
    assert speed.summary(found) in README.read_text()
    assert all(list(one) == [comparison.title for comparison in speed.COMPARISONS] for one in found.values())
