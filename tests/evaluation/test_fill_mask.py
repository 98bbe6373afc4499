import json
from pathlib import Path

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from src.data.tokenizer import SPECIAL_TOKENS
from src.evaluation.fill_mask import Candidate, fill_mask
from src.interop.huggingface import Classifier, MaskedLanguageModel, load_masked_lm, save_classifier
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils import runs
from src.utils.errors import CheckpointError, UsageError
from tests.conftest import Programs, TrainedRun
from tests.interop.peers import POSITIONS, V, our_config, randomized, tokenizer

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

GAPS = ["red [MASK] blue", "[MASK]", "Red [MASK], unheard-of [MASK] grey!", "pink pink pink [MASK] [MASK]"]


@pytest.fixture(scope="module")
def masked_lm(pretrained_run: TrainedRun) -> MaskedLanguageModel:
    return load_masked_lm(pretrained_run.path)


def spelled(family: str, special: tuple[str, ...]) -> MaskedLanguageModel:
    """A model of large random weights with a vocabulary that spells special tokens its own way."""
    names = [*special, *(f"w{index}" for index in range(V - len(special)))]
    found = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token=special[3]))
    found.pre_tokenizer = WhitespaceSplit()
    found.add_special_tokens([AddedToken(token, special=True) for token in special])
    return MaskedLanguageModel(randomized(BertForMaskedLM(our_config(family))), found, POSITIONS - 2)


def test_tokens_and_probabilities_are_those_of_transformers(
    masked_lm: MaskedLanguageModel, pretrained_run: TrainedRun
) -> None:
    pipeline = transformers.pipeline("fill-mask", model=str(pretrained_run.path), device="cpu", top_k=4)
    for text in GAPS:
        rows = pipeline(text)
        expected = rows if isinstance(rows[0], list) else [rows]
        found = fill_mask(masked_lm, text, count=4)
        assert [candidate.gap for candidate in found] == [gap + 1 for gap in range(len(expected)) for _ in range(4)]
        theirs = [row for gap in expected for row in gap]
        assert [candidate.token for candidate in found] == [row["token_str"] for row in theirs]
        scores = [row["score"] for row in theirs]
        assert [candidate.probability for candidate in found] == pytest.approx(scores, abs=1e-4)
        assert found[0].probability > found[1].probability + 1e-3


@pytest.mark.parametrize(
    ("family", "special"),
    [("bert", SPECIAL_TOKENS), ("roberta", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"))],
)
def test_either_spelling_of_the_mask_is_understood(family: str, special: tuple[str, ...]) -> None:
    model = spelled(family, special)
    one, other = (fill_mask(model, f"w1 {mask} w2 w3 {mask}") for mask in ("[MASK]", "<mask>"))
    assert one == other and [candidate.gap for candidate in one] == [1] * 5 + [2] * 5


def test_a_text_longer_than_the_model_reads_is_a_usage_error() -> None:
    model = spelled("roberta", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    longest = model.seq_len
    length = len(model.tokenizer.encode("w2 " * (longest - 1) + "<mask>"))
    assert fill_mask(model, "w2 " * (2 * longest - length - 1) + "<mask>")
    with pytest.raises(UsageError, match=rf"\b{longest + 1} tokens.*\b{longest}\b"):
        fill_mask(model, "w2 " * (2 * longest - length) + "<mask>")


def test_a_tokenizer_without_a_mask_is_a_checkpoint_error() -> None:
    model = spelled("bert", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[GAP]"))
    with pytest.raises(CheckpointError, match=r"\[MASK\]"):
        fill_mask(model, "w1 [MASK]")


# The program


def test_each_candidate_is_a_line_printed_or_written_or_an_object_in_json(
    programs: Programs, masked_lm: MaskedLanguageModel, pretrained_run: TrainedRun, tmp_path: Path
) -> None:
    options = ("--checkpoint", pretrained_run.path, "--fill-mask", "red [MASK] [MASK]")
    printed = programs.inference(*options).out
    expected = fill_mask(masked_lm, "red [MASK] [MASK]")
    best = {candidate.gap: candidate for candidate in expected[::-1]}
    assert all(best[gap].token == "red" and best[gap].probability > 0.5 for gap in (1, 2))  # as it has learned
    assert Candidate(1, "\x1b[2J", 0.123456).as_line() == "1\t0.1235\t\\x1b[2J"
    assert len(expected) == 10 and printed.splitlines() == [candidate.as_line() for candidate in expected]
    assert programs.inference(*options, "--output", tmp_path / "tokens.txt").out == ""
    assert (tmp_path / "tokens.txt").read_text() == printed
    found = programs.inference(*options, "--json").out.splitlines()
    assert [json.loads(line) for line in found] == [vars(candidate) for candidate in expected]


def test_a_text_without_a_gap_is_a_usage_error(programs: Programs, pretrained_run: TrainedRun, tmp_path: Path) -> None:
    for text in ("", "[mask]"):
        options = ("--checkpoint", pretrained_run.path, "--fill-mask", text, "--output", tmp_path / "tokens.txt")
        answer = programs.inference(*options)
        assert (answer.code, answer.out) == (2, "")
        assert "--fill-mask" in answer.error and "[MASK]" in answer.error and not list(tmp_path.iterdir())


def test_a_model_of_the_other_kind_is_a_checkpoint_error(
    programs: Programs, pretrained_run: TrainedRun, tmp_path: Path
) -> None:
    model = randomized(BertForSequenceClassification(our_config("bert"), 2))
    save_classifier(tmp_path, Classifier(model, tokenizer(), ("no", "yes"), 9))
    for path, text in ((tmp_path, ("--fill-mask", "film [MASK]")), (pretrained_run.path, ("red",))):
        answer = programs.inference("--checkpoint", path, *text)
        assert (answer.code, answer.out) == (4, "") and str(path / "model.safetensors") in answer.error


def test_without_a_checkpoint_the_newest_pretrained_run_is_used(
    programs: Programs, pretrained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", pretrained_run.path.parent)
    answer = programs.inference("--fill-mask", "red [MASK]")
    assert answer.code == 0 and str(pretrained_run.path) in answer.err and answer.out.count("\n") == 5
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    answer = programs.inference("--fill-mask", "red [MASK]")
    assert answer.code == 4 and "src.pretrain" in answer.error
