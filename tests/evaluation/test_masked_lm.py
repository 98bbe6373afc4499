import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from src.data.masking import NOT_MASKED
from src.data.tokenizer import SEP, SPECIAL_TOKENS
from src.evaluation import masked_lm
from src.evaluation.masked_lm import Candidate, MaskedEvaluation, evaluate_masked_lm, fill_mask
from src.interop.huggingface import Classifier, MaskedLanguageModel, load_masked_lm, save_classifier
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.training.tasks import MaskedLMTask
from src.utils import runs
from src.utils.errors import CheckpointError, UsageError
from tests.conftest import Programs, TrainedRun
from tests.interop.peers import POSITIONS, V, our_config, tokenizer
from tests.model.tiny import randomized
from tests.training.tiny_pretraining import (
    WORDS,
    generator,
    leaves_global_random_numbers_alone,
    task,
    texts,
    varied_texts,
)

LONG = varied_texts(4, 600)
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


# How well masked tokens are named


def large_task(cache: Path, written: list[str] = LONG, **options: Any) -> MaskedLMTask:
    """A model of large random weights on text whose words differ in frequency."""
    found = task(cache, written, **options)
    randomized(found.model)
    return found


def test_the_numbers_are_those_of_all_masked_tokens_and_of_the_training_texts_unigrams(tmp_path: Path) -> None:
    large = large_task(tmp_path)
    assert len(large.validation) > masked_lm.ROWS_PER_BATCH  # more than one batch
    rows, masks = large.validation, generator(0)
    batches = [rows.collate(starts, masks) for starts in rows.batches(masked_lm.ROWS_PER_BATCH, 0, 0)]
    labels = torch.cat([batch["labels"] for batch in batches]).numpy()
    with torch.no_grad():
        ids = torch.cat([batch["input_ids"] for batch in batches])
        logits = large.model(ids).double().log_softmax(-1).numpy()
    chosen = labels != NOT_MASKED
    found = large.evaluate(large.model)
    assert found.n == chosen.sum() > 60
    losses = -np.take_along_axis(logits[chosen], labels[chosen][:, None], axis=1)
    assert found.loss == pytest.approx(losses.mean(), abs=1e-5)
    assert found.accuracy == pytest.approx((logits[chosen].argmax(-1) == labels[chosen]).mean())
    assert 0 < found.accuracy < 1
    assert MaskedEvaluation.from_dict(found.as_dict() | {"dataset": "films"}) == found
    facts = (f"{found.accuracy:.1%}", f"{found.loss:.3f}", f"{found.unigram_loss:.3f}", f"n = {found.n}")
    assert all(fact in found.as_text().replace(" %", "%") for fact in facts)

    true, tokenizer = labels[chosen], large.tokenizer
    words = " ".join(LONG[:-1]).split()  # the last document is held out
    # One more of each id than there are; ids of special tokens, which are never masked, count as absent.
    counts = np.ones(tokenizer.get_vocab_size())
    for word in WORDS:
        counts[tokenizer.token_to_id(word)] += words.count(word)
    assert found.unigram_loss == pytest.approx(-np.log(counts / counts.sum())[true].mean(), abs=1e-5)
    assert found.unigram_accuracy == pytest.approx((true == counts.argmax()).mean())
    assert 0.1 < found.unigram_accuracy < 0.5
    assert found.unigram_loss < math.log(len(WORDS))


def test_the_baseline_never_names_a_token_that_is_never_masked_nor_an_infinite_loss(tmp_path: Path) -> None:
    large = large_task(tmp_path, ([f"{word} {word}" for word in WORDS] * 3)[:19] + LONG[-1:], seq_len=8)
    tokenizer, counts = large.tokenizer, large.train.counts
    assert counts.argmax() == tokenizer.token_to_id(SEP)  # texts are that short
    assert large.evaluate(large.model).unigram_accuracy > 0
    only_the_last = torch.zeros_like(counts)  # of the words
    only_the_last[tokenizer.token_to_id(WORDS[-1])] = 10**6
    found = evaluate_masked_lm(large.model, large.validation, only_the_last, masked_lm.CPU)
    assert 10 < found.unigram_loss < 20


def test_every_evaluation_gives_the_same_numbers_without_dropout_and_leaves_the_mode_as_it_was(tmp_path: Path) -> None:
    large, found = large_task(tmp_path), []
    dropping = large_task(tmp_path, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    for training in (True, False):
        dropping.model.train(training)
        torch.manual_seed(training)
        assert leaves_global_random_numbers_alone(lambda: found.append(dropping.evaluate(dropping.model)))
        assert {module.training for module in dropping.model.modules()} == {training}
    assert found == [large.evaluate(large.model)] * 2


def test_a_held_out_text_too_short_to_mask_anything_gives_zeros(tmp_path: Path) -> None:
    large = task(tmp_path, [*texts(4), "red"], seq_len=3, mask_rate=1e-6)
    assert large.evaluate(large.model) == MaskedEvaluation(0, 0.0, 0.0, 0.0, 0.0)


# The gaps of a text

GAPS = ["red [MASK] blue", "[MASK]", "Red [MASK], unheard-of [MASK] grey!", "pink pink pink [MASK] [MASK]"]


def spelled(family: str, special: tuple[str, ...]) -> MaskedLanguageModel:
    """A model of large random weights with a vocabulary that spells special tokens its own way."""
    names = [*special, *(f"w{index}" for index in range(V - len(special)))]
    found = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token=special[3]))
    found.pre_tokenizer = WhitespaceSplit()
    found.add_special_tokens([AddedToken(token, special=True) for token in special])
    return MaskedLanguageModel(randomized(BertForMaskedLM(our_config(family))), found, POSITIONS - 2)


# transformers leaves config.json open in save_pretrained
@pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")
def test_tokens_and_probabilities_are_those_of_transformers(pretrained_run: TrainedRun) -> None:
    pipeline = transformers.pipeline("fill-mask", model=str(pretrained_run.path), device="cpu", top_k=4)
    for text in GAPS:
        rows = pipeline(text)
        expected = rows if isinstance(rows[0], list) else [rows]
        found = fill_mask(load_masked_lm(pretrained_run.path), text, count=4)
        assert [candidate.gap for candidate in found] == [gap + 1 for gap in range(len(expected)) for _ in range(4)]
        theirs = [row for gap in expected for row in gap]
        assert [candidate.token for candidate in found] == [row["token_str"] for row in theirs]
        scores = [row["score"] for row in theirs]
        assert [candidate.probability for candidate in found] == pytest.approx(scores, abs=1e-4)
        assert found[0].probability > found[1].probability + 1e-3


def test_either_spelling_of_the_mask_is_understood_and_what_cannot_be_filled_refused() -> None:
    for family, special in (("bert", SPECIAL_TOKENS), ("roberta", ROBERTA)):
        model = spelled(family, special)
        one, other = (fill_mask(model, f"w1 {mask} w2 w3 {mask}") for mask in ("[MASK]", "<mask>"))
        assert one == other and [candidate.gap for candidate in one] == [1] * 5 + [2] * 5
        assert fill_mask(model, "w2 " * (model.seq_len - 1) + "<mask>")
        with pytest.raises(UsageError, match=rf"\b{model.seq_len + 1} tokens.*\b{model.seq_len}\b"):
            fill_mask(model, "w2 " * model.seq_len + "<mask>")
    with pytest.raises(CheckpointError, match=r"\[MASK\]"):
        fill_mask(spelled("bert", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[GAP]")), "w1 [MASK]")


def test_the_program_prints_or_writes_a_line_for_each_candidate_of_the_newest_pretrained_run(
    programs: Programs, pretrained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", pretrained_run.path.parent)
    options = ("--fill-mask", "red [MASK] [MASK]")
    answer = programs.inference(*options)
    assert answer.code == 0 and str(pretrained_run.path) in answer.err
    expected = fill_mask(load_masked_lm(pretrained_run.path), "red [MASK] [MASK]")
    assert all(best.token == "red" and best.probability > 0.5 for best in expected[::5])  # as it has learned
    assert Candidate(1, "\x1b[2J", 0.123456).as_line() == "1\t0.1235\t\\x1b[2J"
    assert len(expected) == 10 and answer.out.splitlines() == [candidate.as_line() for candidate in expected]
    assert programs.inference(*options, "--output", tmp_path / "tokens.txt").out == ""
    assert (tmp_path / "tokens.txt").read_text() == answer.out
    found = programs.inference(*options, "--json").out.splitlines()
    assert [json.loads(line) for line in found] == [vars(candidate) for candidate in expected]
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    answer = programs.inference(*options)
    assert answer.code == 4 and "src.pretrain" in answer.error


def test_a_text_without_a_gap_is_a_usage_error_and_another_kind_of_model_a_checkpoint_error(
    programs: Programs, pretrained_run: TrainedRun, tmp_path: Path
) -> None:
    model = randomized(BertForSequenceClassification(our_config("bert"), 2))
    save_classifier(tmp_path, Classifier(model, tokenizer(), ("no", "yes"), 9))
    for path, text, code, facts in (
        (pretrained_run.path, ("--fill-mask", ""), 2, ("--fill-mask", "[MASK]")),
        (pretrained_run.path, ("--fill-mask", "[mask]"), 2, ("--fill-mask", "[MASK]")),
        (tmp_path, ("--fill-mask", "film [MASK]"), 4, (str(tmp_path / "config.json"),)),
        (pretrained_run.path, ("red",), 4, (str(pretrained_run.path / "config.json"),)),
    ):
        answer = programs.inference("--checkpoint", path, *text, "--output", tmp_path / "tokens.txt")
        assert (answer.code, answer.out) == (code, "") and all(fact in answer.error for fact in facts)
        assert not (tmp_path / "tokens.txt").exists()
