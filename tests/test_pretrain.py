import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from src.data.documents import open_documents
from src.data.packing import PackedRows, tokenized_corpus
from src.data.tokenizer import CLS, SEP, token_id
from src.evaluation.masked_lm import evaluate_masked_lm
from src.interop.huggingface import load_masked_lm
from src.interop.pretrained import pretraining_of
from src.training import trainer
from src.training.trainer import Trainer
from src.utils import runs
from src.utils.config import REPOSITORY
from src.utils.folder import verify
from tests.conftest import Answer, Programs, TrainedRun
from tests.training import tiny_training
from tests.training.tiny_pretraining import (
    ALL_RANDOMNESS,
    WORDS,
    arguments,
    masking,
    settings,
    texts,
    write_texts,
)

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
# Epochs of 6 steps, the last one ended by --max-steps: saved in steps 4, 6, 8, 12 and 16, evaluated in 3, 6, 9, 12, 15
# and 16.
RESUMED: dict[str, Any] = {**ALL_RANDOMNESS, "max_steps": 16, "save_every": 4, "evaluate_every": 3}
SAVED = [4, 6, 8, 12]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "colours.txt")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run(programs: Programs, cache: Path, text: Path, tmp_path: Path) -> Path:
    """A run of three steps, which a test may damage."""
    succeed(programs.pretrain(cache, "--corpus", text, *arguments(max_steps=3), "--output-dir", tmp_path / "run"))
    return tmp_path / "run"


def succeed(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def rows(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, but for what differs from run to run."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "train/tokens_per_second"} for row in found]


def evaluated(folder: Path) -> list[int]:
    return [row["step"] for row in rows(folder) if "validation/loss" in row]


def model_bytes(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# From the command to the folder


def test_a_run_leaves_everything_that_belongs_to_it(pretrained_run: TrainedRun) -> None:
    about = {"README.md", "metrics.jsonl", "run.json", "evaluation-validation.json", "checkpoints"}
    assert {file.name for file in pretrained_run.path.iterdir()} == MODEL | about
    state = {"training_state.safetensors", "training_state.json"}
    for checkpoint in (pretrained_run.path / "checkpoints").iterdir():
        assert {file.name for file in checkpoint.iterdir()} == MODEL | state
        verify(checkpoint)


def test_run_json_tells_task_steps_and_text(pretrained_run: TrainedRun, tmp_path: Path) -> None:
    run, text = read(pretrained_run.path / "run.json"), pretrained_run.path.parent / "colours.txt"
    assert run["task"] == "masked-language-modelling"
    assert run["config"]["optimization"]["max_steps"] == 300
    assert run["config"]["corpus"] == [str(text)]
    assert run["finished"] is not None and run["training_seconds"] > 0
    assert (run["model"]["vocab_size"], run["model"]["hidden_size"]) == (len(WORDS) + 5, 16)
    data = run["data"]
    assert (data["name"], data["documents"]) == ("colours.txt", 203)
    assert (data["train"], data["validation"]) == (193 * 151, 10 * 151)
    assert {folder.name for folder in (pretrained_run.path.parent / "cache").iterdir()} == {data["sha256"][:16]}


def test_the_evaluation_and_last_the_folder_are_all_that_is_printed(pretrained_run: TrainedRun) -> None:
    numbers = read(pretrained_run.path / "evaluation-validation.json")
    assert pretrained_run.answer.out.splitlines() == [
        f"masked tokens named {100 * numbers['accuracy']:.1f} %, loss {numbers['loss']:.3f} nats (n = {numbers['n']})",
        f"unigram baseline    {100 * numbers['unigram_accuracy']:.1f} %, loss {numbers['unigram_loss']:.3f} nats",
        "",
        str(pretrained_run.path),
    ]
    assert numbers["dataset"] == "colours.txt"


def test_the_model_card_is_that_of_a_pretrained_model(pretrained_run: TrainedRun) -> None:
    card = (pretrained_run.path / "README.md").read_text()
    assert card.startswith("---\n") and "\npipeline_tag: fill-mask\n" in card
    assert "# BERT 1/16, pre-trained on colours.txt\n" in card and "300 steps of 16 rows" in card


def test_what_is_pretrained_on_what_is_told(pretrained_run: TrainedRun) -> None:
    lines = pretrained_run.answer.err.splitlines()
    assert lines[0] == "reading     colours.txt"
    assert f"tokenizing  203 documents into {pretrained_run.path.parent / 'cache'}" in lines[1]
    assert lines[2] == "counting    which tokens keep company with which, for the start (--begin-with)"
    assert lines[3] == "text        29,143 tokens of 203 documents: colours.txt"
    assert any(line.startswith("epoch 2.31, step 300/300: validation accuracy ") for line in lines)


def test_a_repetitive_text_is_learned_far_better_than_its_frequencies(pretrained_run: TrainedRun) -> None:
    numbers = read(pretrained_run.path / "evaluation-validation.json")
    assert numbers["n"] > 30
    assert numbers["loss"] < 0.5 * numbers["unigram_loss"]
    assert numbers["accuracy"] > numbers["unigram_accuracy"] + 0.5
    losses = [row["validation/loss"] for row in rows(pretrained_run.path) if "validation/loss" in row]
    assert losses[-1] == pytest.approx(numbers["loss"]) and losses[-1] < losses[0]
    assert evaluated(pretrained_run.path) == [100, 130, 200, 260, 300]


def test_the_delivered_numbers_are_those_of_the_delivered_model(
    run: Path, cache: Path, text: Path, tmp_path: Path
) -> None:
    config = settings()
    found = tokenized_corpus(open_documents(str(text)), config.tokenization, config.model.vocab_size, cache)
    cls_token_id, sep_token_id = (token_id(found.tokenizer, token) for token in (CLS, SEP))
    train, validation = (
        PackedRows("made up", stream, 16, cls_token_id, sep_token_id, masking(only_mask_tokens=True, vocab_size=13))
        for stream in (found.train, found.validation)
    )
    model = load_masked_lm(run).model
    numbers = evaluate_masked_lm(model, validation, train.counts, torch.device("cpu")).as_dict()
    assert read(run / "evaluation-validation.json") == {
        **{name: pytest.approx(value, abs=1e-6) for name, value in numbers.items()},
        "dataset": "colours.txt",
    }


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    programs: Programs, cache: Path, text: Path, run: Path, tmp_path: Path
) -> None:
    files = [model_bytes(run)]
    for seed in (0, 1):
        options = arguments(max_steps=3, seed=seed)
        answer = programs.pretrain(cache, "--corpus", text, *options, "--output-dir", tmp_path / f"seed{seed}")
        assert "tokenizing" not in succeed(answer).err  # the first run has done it
        files.append(model_bytes(tmp_path / f"seed{seed}"))
    assert files[0] == files[1] != files[2]


def test_sources_of_every_kind_are_mixed_and_named(programs: Programs, cache: Path, tmp_path: Path) -> None:
    text = write_texts(tmp_path / "a.txt", count=3)
    (tmp_path / "notes").mkdir()
    write_texts(tmp_path / "notes" / "b.txt", count=4)
    lines = [json.dumps({"body": document}) for document in texts(5)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    sources = ("--corpus", text, tmp_path / "notes", tmp_path / "c.jsonl", "--text-column", "body")
    path = tmp_path / "run"
    succeed(programs.pretrain(cache, *sources, *arguments(max_steps=2), "--output-dir", path))
    data = read(path / "run.json")["data"]
    assert (data["name"], data["documents"]) == ("a.txt + notes + c.jsonl", 12)
    assert "pre-trained on a.txt + notes + c.jsonl" in (path / "README.md").read_text()


def test_without_an_output_folder_the_run_is_named_after_preset_and_time(
    programs: Programs, cache: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.training.resume.WEIGHTS_DIR", tmp_path / "weights")
    answer = programs.pretrain(cache, "--preset", "nano", "--corpus", text, *arguments(max_steps=1))
    (path,) = (tmp_path / "weights").iterdir()
    assert succeed(answer).out.splitlines()[-1] == str(path)
    assert path.name.startswith("pretrained-nano-20") and path.name.endswith("-seed0")


def test_minutes_become_steps_that_are_kept(programs: Programs, cache: Path, text: Path, tmp_path: Path) -> None:
    timed, counted = tmp_path / "timed", tmp_path / "counted"
    options = ("--corpus", text, *arguments(max_steps=None, minutes=0.001), "--output-dir", timed)
    answer = succeed(programs.pretrain(cache, *options))
    steps = read(timed / "run.json")["config"]["optimization"]["max_steps"]
    assert isinstance(steps, int) and steps > 0
    assert f"steps       {steps:,} in 0.001 minutes" in answer.err
    assert rows(timed)[-1]["step"] == steps
    # Measuring the time has drawn random numbers and trained a model, of which nothing may be left.
    succeed(programs.pretrain(cache, "--corpus", text, *arguments(max_steps=steps), "--output-dir", counted))
    assert model_bytes(timed) == model_bytes(counted)
    # A resumed run does not measure again: another machine would come to another number.
    again = succeed(programs.pretrain(cache, *options, "--resume", "auto"))
    assert "ms a step" not in again.err and "resuming    " in again.err
    assert read(timed / "run.json")["config"]["optimization"]["max_steps"] == steps


def test_evaluating_in_between_changes_no_weight(
    programs: Programs, cache: Path, text: Path, run: Path, tmp_path: Path
) -> None:
    options = arguments(max_steps=3, evaluate_every=1)
    succeed(programs.pretrain(cache, "--corpus", text, *options, "--output-dir", tmp_path / "watched"))
    assert (evaluated(run), evaluated(tmp_path / "watched")) == ([3], [1, 2, 3])
    assert model_bytes(run) == model_bytes(tmp_path / "watched")


def test_mask_alone_may_stand_in_the_place_of_every_token(
    programs: Programs, cache: Path, text: Path, run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "masked"
    options = arguments(max_steps=3, mask_replacement="mask")
    succeed(programs.pretrain(cache, "--corpus", text, *options, "--output-dir", path))
    assert model_bytes(path) != model_bytes(run)


def test_help_answers_without_pytorch() -> None:
    program = "import sys; from src.pretrain import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.endswith("\nFalse\n")
    assert "--mask-rate" in result.stdout


# What others make of the folder


def test_transformers_computes_the_same_logits(pretrained_run: TrainedRun) -> None:
    ours = load_masked_lm(pretrained_run.path)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(pretrained_run.path).eval()
    read = transformers.AutoTokenizer.from_pretrained(pretrained_run.path)
    inputs = read("Red [MASK] blue, unheard-of [MASK]", return_tensors="pt")
    ids = ours.tokenizer.encode("Red [MASK] blue, unheard-of [MASK]").ids
    assert inputs["input_ids"][0].tolist() == ids
    with torch.no_grad():
        logits = ours.model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(**inputs).logits, logits, rtol=0, atol=1e-5)
    assert logits.std() > 0.5


def test_the_pipeline_of_transformers_fills_the_gap(pretrained_run: TrainedRun) -> None:
    pipeline = transformers.pipeline("fill-mask", model=str(pretrained_run.path), device="cpu")
    assert pipeline("blue blue blue [MASK] blue blue blue blue")[0]["token_str"] == "blue"
    assert pipeline.tokenizer.model_max_length == 16


def test_a_classifier_is_trained_on_top_of_it(programs: Programs, pretrained_run: TrainedRun, tmp_path: Path) -> None:
    labelled = [f"{word} {other},{index % 2}" for index, word in enumerate(WORDS) for other in WORDS]
    (tmp_path / "colours.csv").write_text("\n".join(["sentence,label", *labelled]))
    answer = succeed(
        programs.train(
            *("--model-name-or-path", pretrained_run.path, "--train-file", tmp_path / "colours.csv"),
            *("--freeze-layers", "all", "--epochs", 1, "--output-dir", tmp_path / "classifier"),
            *("--device", "cpu", "--num-threads", 1),
        )
    )
    before, after = (
        load_file(folder / "model.safetensors") for folder in (pretrained_run.path, tmp_path / "classifier")
    )
    encoder = {name for name in before if name.startswith("bert.")}
    head = sorted(name for name in before if name not in encoder)
    assert f"pretrained  {len(encoder)} tensors taken over" in answer.err
    assert f"left unused: {', '.join(head)}" in answer.err
    assert "newly initialised: bert.pooler.dense.weight, bert.pooler.dense.bias, classifier.weight" in answer.err
    assert all(torch.equal(after[name], before[name]) for name in encoder)
    assert read(tmp_path / "classifier" / "tokenizer_config.json")["model_max_length"] == 16
    assert "knows 16 of them; longer texts are cut there, not at --seq-len" in answer.err
    assert succeed(programs.inference("--checkpoint", tmp_path / "classifier", "red red")).out.count("\n") == 1
    (checkpoint,) = (tmp_path / "classifier" / "checkpoints").iterdir()
    for folder in (pretrained_run.path, tmp_path / "classifier", checkpoint):
        assert pretraining_of(folder) == read(pretrained_run.path / "run.json")
    card = (tmp_path / "classifier" / "README.md").read_text()
    assert (
        "trained from\nrun\non" in card
        and "from random weights:\n\n1. 300 steps of 16 rows of 16 tokens of col" in card
    )
    assert str(pretrained_run.path) not in card


def test_pre_training_goes_on_from_it_and_says_so(
    programs: Programs, cache: Path, text: Path, pretrained_run: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "more"
    options = ("--corpus", text, "--max-steps", 8, "--save-every", 3, "--seq-len", 16, "--num-threads", 1)
    command = ("--model-name-or-path", pretrained_run.path, *options, "--device", "cpu", "--output-dir", path)
    succeed(programs.pretrain(cache, *command))
    before, after = (read(folder / "evaluation-validation.json") for folder in (pretrained_run.path, path))
    assert after["accuracy"] > 0.9 * before["accuracy"] > 2 * after["unigram_accuracy"]
    assert (path / "tokenizer.json").read_bytes() == (pretrained_run.path / "tokenizer.json").read_bytes()
    assert read(path / "run.json")["model"]["pretraining"] == read(pretrained_run.path / "run.json")
    card = (path / "README.md").read_text()
    assert (
        "trained from\nrun\nto" in card
        and "from random weights:\n\n1. 300 steps of 16 rows of 16 tokens of col" in card
    )
    assert str(pretrained_run.path) not in card
    # Killed after its sixth step, it ends the same.
    expected = model_bytes(path)
    shutil.rmtree(path / "checkpoints" / "step-8")
    (path / "model.safetensors").unlink()
    succeed(programs.pretrain(cache, "--resume", path))
    assert model_bytes(path) == expected


# Resuming


@pytest.fixture(scope="module")
def straight(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with all of its checkpoints and a row of metrics for every step."""
    folder = tmp_path_factory.mktemp("straight")
    text = write_texts(folder / "colours.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "STEPS_PER_LOG", 1)
        options = ("--corpus", text, *arguments(**RESUMED, keep_last=99), "--output-dir", folder / "run")
        succeed(programs.pretrain(folder / "cache", *options))
    assert evaluated(folder / "run") == [3, 6, 9, 12, 15, 16]
    return folder / "run"


def assert_same_run(found: Path, straight: Path) -> None:
    assert hashlib.sha256(model_bytes(found)).digest() == hashlib.sha256(model_bytes(straight)).digest()
    assert rows(found) == rows(straight)
    assert read(found / "evaluation-validation.json") == read(straight / "evaluation-validation.json")
    state = Path("checkpoints") / "step-16" / "training_state.safetensors"
    assert (found / state).read_bytes() == (straight / state).read_bytes()


@pytest.mark.parametrize("step", SAVED)
@pytest.mark.parametrize("named", ["run", "checkpoint"])
def test_a_run_resumed_from_a_checkpoint_ends_the_same(
    named: str, step: int, straight: Path, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STEPS_PER_LOG", 1)
    path = tmp_path / "run"
    shutil.copytree(straight, path)
    (path / "model.safetensors").unlink()
    (path / "evaluation-validation.json").unlink()
    checkpoint = path / "checkpoints" / f"step-{step}"
    if named == "run":  # a crash, in the middle of a line
        for later in [*SAVED[SAVED.index(step) + 1 :], 16]:
            shutil.rmtree(path / "checkpoints" / f"step-{later}")
        with (path / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 17, "tr')
    answer = succeed(programs.pretrain(tmp_path / "cache", "--resume", path if named == "run" else checkpoint))
    assert f"resuming    {checkpoint}, step {step}" in answer.err
    assert_same_run(path, straight)


@pytest.mark.parametrize("step", [5, 6, 9, 12, 16])
def test_a_run_that_a_signal_stopped_ends_the_same(
    step: int, straight: Path, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STEPS_PER_LOG", 1)
    original = Trainer.training_step

    def training_step(trainer: Trainer, batches: Any) -> Any:
        report = original(trainer, batches)
        if trainer.progress.step == step:
            signal.raise_signal(signal.SIGTERM)
        return report

    path, text = tmp_path / "run", straight.parent / "colours.txt"
    options = ("--corpus", text, *arguments(**RESUMED), "--output-dir", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", training_step)
        answer = programs.pretrain(tmp_path / "cache", *options)
    assert answer.code == 128 + signal.SIGTERM
    assert f"stopped in step {step}; resume with --resume {path}" in answer.error
    succeed(programs.pretrain(tmp_path / "cache", "--resume", path))
    assert_same_run(path, straight)
    assert read(path / "run.json")["finished"] is not None


def test_a_changed_setting_is_refused_by_name_and_what_is_watched_may_change(
    programs: Programs, cache: Path, run: Path
) -> None:
    answer = programs.pretrain(cache, "--resume", run, "--learning-rate", 1, "--max-steps", 9, "--mask-rate", 0.5)
    assert (answer.code, answer.out) == (2, "")
    assert "max_steps 3 -> 9" in answer.error and "learning_rate 0.01 -> 1.0" in answer.error
    assert "mask_rate 0.15 -> 0.5" in answer.error
    succeed(programs.pretrain(cache, "--resume", run, "--save-every", 2, "--evaluate-every", 2, "--device", "auto"))


def test_another_text_is_refused_by_name(programs: Programs, cache: Path, run: Path, tmp_path: Path) -> None:
    other = write_texts(tmp_path / "other.txt")
    answer = programs.pretrain(cache, "--resume", run, "--corpus", other)
    assert answer.code == 2 and "corpus" in answer.error and str(other) in answer.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "red red\n\n" + text, "other training size"),
        (lambda text: text.replace("green", "red", 1), "other content"),  # as many tokens, and the same words
    ],
)
def test_a_text_that_changed_since_is_refused(
    change: Any, message: str, programs: Programs, cache: Path, text: Path, run: Path
) -> None:
    text.write_text(change(text.read_text()))
    before = model_bytes(run)
    answer = programs.pretrain(cache, "--resume", run)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error and "restore the data" in answer.error
    assert model_bytes(run) == before


def test_a_text_that_is_gone_is_a_data_error(programs: Programs, cache: Path, text: Path, run: Path) -> None:
    text.unlink()
    answer = programs.pretrain(cache, "--resume", run)
    assert answer.code == 3 and "colours.txt' does not exist" in answer.error


def test_a_cache_that_was_deleted_is_made_anew(programs: Programs, cache: Path, run: Path) -> None:
    before = model_bytes(run)
    shutil.rmtree(cache)
    assert "tokenizing  20 documents" in succeed(programs.pretrain(cache, "--resume", run)).err
    assert model_bytes(run) == before


def test_the_command_that_began_a_run_resumes_it_in_the_same_words_from_its_folder(
    programs: Programs, cache: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    options = ("--corpus", text.name, *arguments(max_steps=3), "--resume", "auto", "--output-dir", "run")
    assert "resuming    nothing" in succeed(programs.pretrain(cache, *options)).err
    assert "resuming    run/checkpoints/step-3" in succeed(programs.pretrain(cache, *options)).err


def test_a_run_is_resumed_from_any_folder(
    programs: Programs, cache: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    succeed(programs.pretrain(cache, "--corpus", text.name, *arguments(max_steps=3), "--output-dir", "run"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    succeed(programs.pretrain(cache, "--resume", tmp_path / "run"))


def test_a_corpus_with_a_split_is_found_from_any_folder(
    programs: Programs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "films" / "data" / "unsupervised-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    datasets.Dataset.from_dict({"text": texts()}).to_parquet(path)
    options = arguments(max_steps=2)
    succeed(programs.pretrain(cache, "--corpus", "films:unsupervised", *options, "--output-dir", "run"))
    run = read(tmp_path / "run" / "run.json")
    assert run["config"]["corpus"] == [f"{tmp_path / 'films'}:unsupervised"]
    assert run["data"]["name"] == "films:unsupervised"
    monkeypatch.chdir(path.parent)
    succeed(programs.pretrain(cache, "--resume", tmp_path / "run"))


def test_auto_goes_on_with_runs_of_its_own_kind_only(
    programs: Programs, cache: Path, text: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", run.parent)
    (run / "run.json").write_text(json.dumps(read(run / "run.json") | {"finished": None}))
    tiny_training.begin(run.parent / "classifier").train()  # newer, and not marked as finished
    answer = succeed(programs.pretrain(cache, "--corpus", text, *arguments(max_steps=3), "--resume", "auto"))
    assert answer.out.splitlines()[-1] == str(run)
    assert read(run / "run.json")["finished"] is not None


def test_each_program_refuses_to_resume_a_run_of_the_other(
    programs: Programs, cache: Path, run: Path, tmp_path: Path
) -> None:
    classifier = tmp_path / "classifier"
    tiny_training.begin(classifier).train()
    for program, folder, task in (
        (lambda *options: programs.pretrain(cache, *options), classifier, "classification"),
        (programs.train, run, "masked-language-modelling"),
    ):
        before = model_bytes(folder)
        for options in (("--resume", folder), ("--resume", "auto", "--output-dir", folder)):
            answer = program(*options)
            assert (answer.code, answer.out) == (2, "")
            assert f"{folder} is a run of {task}" in answer.error
            assert "resume it with its own program" in answer.error
        assert model_bytes(folder) == before


# What the user got wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset huge", "--preset huge is unknown; choose one of nano, tiny"),
        ("--corpus", "--corpus names no text"),
        ("--max-steps 0", "max_steps = 0 must be at least 1"),
        ("--minutes 0", "minutes = 0.0 must be above 0"),
        ("--mask-rate 1", "mask_rate = 1.0 must lie in (0, 1)"),
        ("--seq-len 1000", "seq_len = 1000 exceeds the 512 positions"),
        ("--overwrite --resume auto", "give one of them"),
    ],
)
def test_contradictory_options_are_usage_errors(options: str, message: str, programs: Programs, cache: Path) -> None:
    answer = programs.pretrain(cache, *options.split())
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error


@pytest.mark.parametrize(
    ("options", "suggestion"), [("--max-step 3", "--max-steps"), ("--mask-replacement never", "--mask-replacement")]
)
def test_a_mistyped_option_is_a_usage_error_that_suggests_the_right_one(
    options: str, suggestion: str, programs: Programs, cache: Path
) -> None:
    answer = programs.pretrain(cache, *options.split())
    assert (answer.code, answer.out) == (2, "")
    assert suggestion in answer.err.replace(options.split()[0] + ",", "")


BAD_TEXTS: dict[str, tuple[str, str | bytes | None, str]] = {
    "missing": ("absent.txt", None, "does not exist"),
    "mistyped hub id": ("absent", None, "does not exist, and is no hub id"),
    "not UTF-8": ("bad.txt", b"caf\xe9\n\nfilm", "is not UTF-8"),
    "one document": ("one.txt", "red " * 500, "one.txt holds 1 documents; give two at least"),
    "empty": ("empty.txt", "", "empty.txt holds 0 documents"),
    "too short": ("short.txt", "red red\n\nblue", "3 tokens, but rows of --seq-len 16 need 27"),
    "no column": ("bad.csv", "words\nred\nblue\n", "bad.csv: no column sentence or text"),
    "half a letter": ("bad.jsonl", '{"text": "red"}\n{"text": "\\ud83d"}\n', "bad.jsonl:2: half a surrogate pair"),
    "another kind": ("film.pdf", "%PDF", "film.pdf is none of .txt, "),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_text_without_use_is_a_data_error_that_names_it(
    name: str, programs: Programs, cache: Path, tmp_path: Path
) -> None:
    file, content, message = BAD_TEXTS[name]
    if content is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    options = arguments(max_steps=2)
    answer = programs.pretrain(cache, "--corpus", tmp_path / file, *options, "--output-dir", tmp_path / "run")
    assert (answer.code, answer.out) == (3, "")
    assert message in answer.error
    assert not (tmp_path / "run").exists()


def test_a_hub_that_does_not_answer_is_a_data_error_that_names_the_corpus(
    programs: Programs, cache: Path, tmp_path: Path
) -> None:
    answer = programs.pretrain(cache, "--corpus", "nobody/nothing:train", "--output-dir", tmp_path / "run")
    assert answer.code == 3 and "nobody/nothing is not cached here" in answer.error


def test_an_existing_folder_is_refused_and_untouched(programs: Programs, cache: Path, text: Path, run: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    answer = programs.pretrain(cache, "--corpus", text, *arguments(max_steps=3), "--output-dir", run)
    assert answer.code == 2 and f"{run} exists" in answer.error
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_overwrite_begins_anew_and_can_be_resumed(programs: Programs, cache: Path, text: Path, run: Path) -> None:
    options = arguments(max_steps=2, seed=5)
    succeed(programs.pretrain(cache, "--corpus", text, *options, "--output-dir", run, "--overwrite"))
    assert read(run / "run.json")["config"]["run"]["seed"] == 5
    succeed(programs.pretrain(cache, "--resume", run))


def test_a_cache_that_cannot_be_written_is_a_storage_error(programs: Programs, text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = arguments(max_steps=2)
    answer = programs.pretrain(tmp_path / "file", "--corpus", text, *options, "--output-dir", tmp_path / "run")
    assert answer.code == 6 and "cannot write" in answer.error


def test_a_dry_run_tells_and_writes_no_run(programs: Programs, cache: Path, text: Path, tmp_path: Path) -> None:
    options = ("--corpus", text, *arguments(max_steps=40), "--dry-run", "--output-dir", tmp_path / "run")
    answer = succeed(programs.pretrain(cache, *options))
    assert re.search(r"^run +40 steps, about \d+ seconds without evaluations$", answer.out, re.MULTILINE)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()  # a folder that a run could not have
    succeed(programs.pretrain(cache, *options))
