"""Every hyper-parameter and path. The sentence under each is its command-line help, a group is a section of `--help`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from src.utils.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS_DIR = REPOSITORY / "weights"
SHIPPED_CHECKPOINT = WEIGHTS_DIR / "bert-sst2"
SAMPLE_DIR = REPOSITORY / "src" / "data" / "sample"
CACHE_DIR = Path(os.environ.get("BERT_CACHE_DIR", REPOSITORY / ".cache"))

SST2 = "stanfordnlp/sst2"
IMDB = "stanfordnlp/imdb"
SAMPLE = "sample"
Config = TypeVar("Config")
LongText = Literal["truncate", "head-tail", "windows"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE_LABEL: tuple[ProblemType | None, ...] = (None, "single_label_classification")
SENTIMENT_LABELS = ("negative", "positive")
# Evaluations mask this share of the tokens, whatever the training does, so that their numbers can be compared.
EVALUATED_MASK_RATE = 0.15

MOST_EPOCHS = 100  # unless asked for: each ends with an evaluation and a checkpoint

Rule = tuple[Callable[[Any], bool], str]
AT_LEAST_1: Rule = (lambda value: value >= 1, "must be at least 1")
NOT_NEGATIVE: Rule = (lambda value: value >= 0, "must not be negative")
POSITIVE: Rule = (lambda value: 0 < value < inf, "must be above 0 and finite")
FRACTION: Rule = (lambda value: 0 <= value < 1, "must lie in [0, 1)")


def require(config: Any, rule: Rule, *names: str) -> None:
    """Raises a UsageError that names the first of some options whose value breaks a rule; None breaks none."""
    holds, words = rule
    for name in names:
        value = getattr(config, name)
        if value is not None and not holds(value):
            raise UsageError(f"{name} = {value} {words}")


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT, in the names of Hugging Face's config.json (Devlin et al. 2019, section 3)."""

    model_type: Literal["bert", "distilbert", "roberta"] = "bert"
    """Family: DistilBERT has no segments and a relu pooler, RoBERTa counts positions from pad_token_id + 1."""
    vocab_size: int = 30_522
    """Largest vocabulary to build; the tokenizer that is built or loaded sets the final number."""
    hidden_size: int = 768
    """Width D of every token's vector."""
    num_hidden_layers: int = 12
    """Number of encoder layers."""
    num_attention_heads: int = 12
    """Number of attention heads H; each works in D / H dimensions."""
    intermediate_size: int = 3072
    """Width of the feed-forward layer between its two projections."""
    max_position_embeddings: int = 512
    """Rows of the position table, hence the longest sequence the model can ever read."""
    type_vocab_size: int = 2
    """Number of segments: sentence A and sentence B."""
    hidden_dropout_prob: float = 0.1
    """Dropout after the embeddings and after every sub-layer."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout on attention weights; above 0 it disables the fused attention kernel on a CPU."""
    classifier_dropout: float = 0.1
    """Dropout on the pooled vector in front of the classifier."""
    initializer_range: float = 0.02
    """Standard deviation of the normal distribution that initialises every matrix."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in every LayerNorm."""
    pad_token_id: int = 0
    """Vocabulary id of [PAD]; its embedding begins at zero."""
    positional_encoding: Literal["learned", "sinusoidal"] = "learned"
    """Position vectors: learned (BERT) or the fixed sine table of Vaswani et al. 2017, section 3.5."""
    problem_type: ProblemType | None = None
    """What a classifier gives: one class of several, any number of them, or a number; unset: what the labels to train on are."""

    @property
    def position_offset(self) -> int:
        """Row of the position table that the first token uses."""
        return self.pad_token_id + 1 if self.model_type == "roberta" else 0

    @property
    def longest_sequence(self) -> int:
        """Most tokens the position table has rows for."""
        return self.max_position_embeddings - self.position_offset

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        require(self, AT_LEAST_1, *sizes)
        require(self, NOT_NEGATIVE, "type_vocab_size", "initializer_range")
        require(self, POSITIVE, "layer_norm_eps")
        require(self, FRACTION, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        D, V = self.hidden_size, self.vocab_size
        require(self, (lambda H: D % H == 0, f"must divide hidden_size = {D}"), "num_attention_heads")
        require(self, (lambda pad: 0 <= pad < V, f"must be an id below vocab_size = {V}"), "pad_token_id")
        require(self, (lambda rows: rows >= 3, "must be at least 3"), "max_position_embeddings")
        kinds = get_args(ProblemType)
        require(self, (lambda kind: kind in kinds, f"is none of {', '.join(kinds)}"), "problem_type")
        if self.positional_encoding == "sinusoidal":
            require(self, (lambda D: D % 2 == 0, "must be even for sinusoidal positions"), "hidden_size")
        is_distilbert = self.model_type == "distilbert"
        segments = "must be 0 for distilbert, which has no segments" if is_distilbert else "must be at least 1"
        require(self, (lambda count: (count == 0) == is_distilbert, segments), "type_vocab_size")


# Google's released sizes (Devlin et al. 2019; Turc et al. 2019), heads 64 wide throughout, and nano: from SST-2 alone
# a second layer gains nothing (tests/benchmarks/README.md).
LAYERS_AND_WIDTHS = {
    "nano": (1, 128), "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768),
    "large": (24, 1024),
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    name: {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    for name, (layers, width) in LAYERS_AND_WIDTHS.items()
}


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """How files of rows are written, and which columns are used."""

    text_column: str | None = None
    """Column that holds the text; unset: the one named sentence, text, review, content or tweet."""
    label_column: str | None = None
    """Column that holds the label; unset: the one named label, labels, sentiment, class or target."""
    text_pair_column: str | None = None
    """Column that holds a second text, for models that compare two; unset: one text only."""
    separator: str | None = None
    """Character between the cells of CSV and TSV files, or tab; unset: found from the header."""
    encoding: str | None = None
    """Encoding of files, such as cp1252; unset: UTF-8, or UTF-16 where a byte order mark says so."""
    header: bool = True
    """The first line of CSV and TSV files names the columns; without a header they are 1, 2, ..."""
    skip_bad_rows: bool = False
    """Leave out rows that cannot be read or lack a text or label, and say how many, instead of refusing the data."""

    @property
    def table_options(self) -> dict[str, Any]:
        """The options above that are not the defaults."""
        options = {f.name: (getattr(self, f.name), f.default) for f in fields(TableConfig)}
        return {name: value for name, (value, default) in options.items() if value != default}


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Where sentences come from, how many of them are used, and what becomes of long ones."""

    dataset: str | None = None
    """Hub id, or ID:CONFIG where it has configurations, folder, file (CSV, TSV, JSON, JSONL or Parquet, also .gz), or "sample"; unset: SST2_DIR, else the hub's SST-2, else the sample."""
    train_file: Path | None = None
    """File to train on, in place of --dataset, or folder with a folder of .txt files for each class."""
    validation_file: Path | None = None
    """File to evaluate on, with --train-file; without it a seeded, stratified tenth of the training rows."""
    max_train_samples: int | None = None
    """Train on this many randomly drawn examples only."""
    holdout: float = 0.0
    """Hold out this fraction of the training phrases that no other contains, with all phrases in them, and evaluate on these."""
    calibration: float = 0.0
    """Do not train on this fraction of the training texts, drawn as --holdout does, but fit the temperature on them that makes confidence agree with accuracy (Guo et al. 2017); 0: train on all, and fit none."""
    long_text: LongText = "truncate"
    """Of a text above --seq-len read the beginning, the beginning and the end, or all in windows whose scores are averaged."""

    def __post_init__(self) -> None:
        require(self, FRACTION, "holdout", "calibration")
        require(self, AT_LEAST_1, "max_train_samples")
        if self.dataset is not None and self.train_file is not None:
            raise UsageError("--dataset and --train-file name two sources; give one of them")
        if self.validation_file is not None and self.train_file is None:
            raise UsageError("--validation-file requires --train-file")
        if self.holdout and self.validation_file is not None:
            raise UsageError("--holdout evaluates on training phrases, --validation-file on a file; give one of them")


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes token ids; the vocabulary size is --vocab-size."""

    tokenizer: Literal["wordlevel", "wordpiece"] = "wordlevel"
    """Whole words, or the WordPiece sub-words BERT uses; both are built on the training text."""
    min_frequency: int = 2
    """Words (WordPiece: pairs) seen less often than this stay out of the vocabulary."""
    lowercase: bool = True
    """Lower-case the text and strip accents of Latin, Greek and Cyrillic letters."""
    plain_text: bool = True
    """Detokenize: undo Treebank's "ca n't" and "-lrb-" (SST-2) and HTML line breaks (IMDB)."""
    seq_len: int = 64
    """Maximum sequence length in tokens, with [CLS] and [SEP]: of a text, or of a row in pre-training."""

    def __post_init__(self) -> None:
        require(self, (lambda tokens: tokens >= 3, "must be at least 3: [CLS], one token, [SEP]"), "seq_len")
        require(self, AT_LEAST_1, "min_frequency")


@dataclass(frozen=True)
class OptimizerConfig:
    """The training loop: AdamW with warm-up and linear decay."""

    batch_size: int = 64
    """Batch size: a classifier's batches hold batch_size x mean length tokens, so long sentences form smaller ones; in pre-training, rows."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are averaged before one optimizer step."""
    gradient_checkpointing: bool = False
    """Recompute the activations of each layer in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the layers with torch.compile, for GPUs; the first steps take longer."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached after warm-up."""
    warmup_ratio: float = 0.1
    """Fraction of all steps in which the learning rate rises from 0 to its peak; then it falls linearly to 0."""
    layer_decay: float = 1.0
    """Each layer's learning rate is this times that of the layer above; below 1 it spares a pre-trained encoder."""
    weight_decay: float = 0.1
    """Decoupled decay of matrices; biases and LayerNorm are left alone (Loshchilov & Hutter 2019)."""
    adam_beta1: float = 0.9
    """Decay of AdamW's mean of gradients."""
    adam_beta2: float = 0.95
    """Decay of AdamW's mean of squared gradients; near 1 it lets a rare word's few gradients move it far."""
    adam_epsilon: float = 1e-5
    """Added to AdamW's denominator; larger than usual, it keeps rare words' steps small."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm."""
    ema_decay: float = 0.999
    """Decay of the moving average of weights that is evaluated and saved; 0 keeps the raw weights."""

    def __post_init__(self) -> None:
        require(self, AT_LEAST_1, "batch_size", "gradient_accumulation_steps")
        require(self, (lambda decay: 0 < decay <= 1, "must lie in (0, 1]"), "layer_decay")
        require(self, POSITIVE, "learning_rate", "adam_epsilon", "max_grad_norm")
        require(self, NOT_NEGATIVE, "weight_decay")
        require(self, FRACTION, "warmup_ratio", "ema_decay", "adam_beta1", "adam_beta2")


@dataclass(frozen=True)
class OptimizationConfig(OptimizerConfig):
    """The training loop: AdamW with warm-up and linear decay, and what keeps a small model from overfitting."""

    epochs: int | None = None
    """Passes over the training examples; unset: 2, or as many as --min-steps asks for, up to 100."""
    min_steps: int = 400
    """Fewest optimizer steps where --epochs is unset: few examples are read more often."""
    freeze_layers: int | Literal["all"] | None = None
    """Keep the embeddings and this many layers as they are, or all of the encoder and train its head only."""
    label_smoothing: float = 0.1
    """Probability mass taken from the true label and spread over all labels; with one class of several only."""
    class_weights: Literal["balanced"] | None = None
    """Weigh the loss of each class by the inverse of its frequency (balanced), for rare classes; unset: all alike."""
    word_dropout: float = 0.1
    """Chance that a training token is replaced by [UNK]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, AT_LEAST_1, "epochs")
        require(self, NOT_NEGATIVE, "min_steps")
        require(self, (lambda layers: layers == "all" or layers >= 0, "must not be negative"), "freeze_layers")
        require(self, FRACTION, "label_smoothing", "word_dropout")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Counts the optimizer steps of all epochs."""
        enough = min(MOST_EPOCHS, ceil(self.min_steps / steps_per_epoch))
        return (self.epochs or max(2, enough)) * steps_per_epoch


@dataclass(frozen=True)
class PretrainingConfig(OptimizerConfig):
    """The pre-training loop: how long, and which tokens are masked (Devlin et al. 2019, section 3.1)."""

    max_steps: int | None = None
    """Optimizer steps; unset: as many as --minutes allow."""
    minutes: float = 150.0
    """Time for the optimizer steps; turned into --max-steps once, by timing a few trial steps."""
    begin_with: Literal["counts", "random"] = "counts"
    """Initialise token embeddings from PMI/SVD, positions from sinusoids and the decoder bias from log-frequencies; or all at random. Ignored with --model-name-or-path."""
    mask_rate: float = 0.15
    """Chance that a token is to be predicted."""
    mask_replacement: Literal["80-10-10", "mask"] = "80-10-10"
    """What stands in place of such a token: [MASK] in 80 %, a random token in 10 %, itself in 10 %; or always [MASK]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, AT_LEAST_1, "max_steps")
        require(self, (lambda minutes: 0 < minutes < inf, "must be above 0 and finite"), "minutes")
        require(self, (lambda rate: 0 < rate < 1, "must lie in (0, 1)"), "mask_rate")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Counts the optimizer steps: --max-steps, which --minutes have become by then."""
        assert self.max_steps is not None
        return self.max_steps


@dataclass(frozen=True)
class DistillationConfig:
    """A trained classifier as teacher, whose probabilities the student learns in addition to the labels (Hinton et al. 2015)."""

    teacher: str | None = None
    """Classifier to learn from, of the same classes: a folder or hub id of the BERT, DistilBERT or RoBERTa family."""
    unlabelled: tuple[str, ...] = ()
    """More texts, which the teacher alone labels, sentence by sentence: SOURCE or SOURCE:SPLIT, as --corpus of src.pretrain."""
    temperature: float = 2.0
    """Divides the logits of teacher and student before softmax; above 1 it shows how unlikely the other classes are."""
    hard_label_weight: float = 0.1
    """Weight of the true labels in the loss; the teacher's probabilities have the rest."""

    def __post_init__(self) -> None:
        require(self, POSITIVE, "temperature")
        require(self, (lambda weight: 0 <= weight <= 1, "must lie in [0, 1]"), "hard_label_weight")
        if self.unlabelled and self.teacher is None:
            raise UsageError("--unlabelled needs --teacher, which labels it")


@dataclass(frozen=True, kw_only=True)
class EvaluatedData(TableConfig):
    """Which texts a model answers to be judged by."""

    dataset: str | None = None
    """Data to evaluate on, named as for training; unset: the data the model was trained on."""
    split: str = "validation"
    """Split to evaluate on."""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """On what a program runs."""

    device: str = "auto"
    """auto (CUDA or Apple's GPU when there, else CPU), cpu, cuda, cuda:N or mps."""
    num_threads: int = 0
    """CPU threads to compute with; 0 leaves PyTorch's own choice, OMP_NUM_THREADS or all CPUs."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(self, NOT_NEGATIVE, "num_threads")


@dataclass(frozen=True)
class ReportConfig(EvaluatedData, DeviceConfig):
    """Show a run in one HTML page and in pictures: its curves, and how right and how sure its model is."""

    folder: Path
    """Folder of a run, or of any classifier."""
    predictions: Path | None = None
    """Show these predictions instead of the model's: JSONL of an earlier report or of python -m src.inference --json."""
    output_dir: Path | None = None
    """Folder for report.html, the pictures and predictions.jsonl; unset: report/ in the run's folder."""
    picture: Path | None = None
    """Draw all charts, without any text of the data, into this PNG, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictions is not None and self.dataset is not None:
            raise UsageError("--predictions are shown, --dataset is predicted; give one of them")


@dataclass(frozen=True)
class RunConfig(DeviceConfig):
    """Where the run lives, what it keeps, and on what it runs."""

    output_dir: Path | None = None
    """Folder of the run; unset: a new one under weights/ named after data, preset and time."""
    overwrite: bool = False
    """Delete what --output-dir holds before training."""
    dry_run: bool = False
    """Train a few steps, report the run's configuration and cost, and write nothing."""
    resume: str = "never"
    """never, auto (in --output-dir, or the newest unfinished run), or the path of a run or checkpoint."""
    allow_config_change: bool = False
    """Resume with other settings than the run began with; its data and the sizes of its model stay."""
    keep: Literal["last", "best"] = "last"
    """Save the model of the last epoch, or of the best one, which --patience saves in any case."""
    best_by: Literal["accuracy", "f1", "loss"] | None = None
    """What makes an epoch the best: its validation accuracy, macro F1 or loss; unset: accuracy, of several labels micro F1, of numbers Spearman."""
    patience: int = 0
    """Stop after this many epochs without a better one, and save the best; 0: train to the end. --best-by loss lets it watch the loss."""
    save_every: int = 0
    """Write a resumable checkpoint every N steps, besides the one at each epoch's end; 0: epochs only."""
    keep_last: int = 2
    """Keep this many of the newest checkpoints to resume from."""
    evaluate_every: int = 0
    """Evaluate every N steps, besides each epoch's end; 0: epochs only."""
    seed: int = 0
    """Seed of initialisation, order of examples, dropout and every random draw."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of matrix products: auto is bf16 autocast on CUDA GPUs that have it, and fp32 elsewhere."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """Weights & Biases; auto is WANDB_MODE if set, else online when a key is configured, else disabled."""
    wandb_project: str | None = None
    """Project the run is logged to; unset: WANDB_PROJECT, else bert-sst2."""
    wandb_name: str | None = None
    """Name of the run there; unset: WANDB_NAME, else that of the run's folder."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the run there; none: those of WANDB_TAGS."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, NOT_NEGATIVE, "save_every", "evaluate_every", "patience")
        require(self, AT_LEAST_1, "keep_last")
        require(self, (lambda seed: 0 <= seed < 2**63, "must lie in [0, 2^63)"), "seed")
        if self.overwrite and self.resume != "never":
            raise UsageError("--overwrite deletes what --resume would continue; give one of them")
        if self.dry_run and self.resume != "never":
            raise UsageError("--dry-run reports on a new run, --resume continues one; give one of them")

    @property
    def keeps_best(self) -> bool:
        """Whether the best epoch's model is saved, not the last one's."""
        return self.keep == "best" or self.patience > 0


@dataclass(frozen=True)
class TrainConfig:
    """Train a hand-written BERT to classify sentences, from random weights or from a pre-trained checkpoint."""

    task = "classification"

    model_name_or_path: str | None = None
    """Pre-trained BERT, DistilBERT or RoBERTa to fine-tune: a folder, or a hub id such as google-bert/bert-base-uncased."""
    preset: str = "nano"
    """Size of the model (layers/width): nano 1/128, tiny 2/128, mini 4/256, small 4/512, medium 8/512, base 12/768, large 24/1024."""
    recipe: str | None = None
    """Named set of settings: "finetune" for pre-trained checkpoints, "sample" for up to 5,000 examples; unset: the one that suits, else the settings for SST-2 from random weights."""
    data: DataConfig = DataConfig()
    tokenization: TokenizerConfig = TokenizerConfig()
    model: BertConfig = BertConfig(
        **PRESETS["nano"],
        hidden_dropout_prob=0.2,
        attention_probs_dropout_prob=0.0,  # costs the fused kernel on a CPU, and gains nothing here
        classifier_dropout=0.2,
    )
    optimization: OptimizationConfig = OptimizationConfig()
    distillation: DistillationConfig = DistillationConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        _require_parts_that_fit(self)
        kind = self.model.problem_type
        teacher, weights = self.distillation.teacher, self.optimization.class_weights
        for name, value in (("teacher", teacher), ("class-weights", weights), ("calibration", self.data.calibration)):
            if value and kind not in SINGLE_LABEL:
                raise UsageError(f"--{name} is for one class of several, not for {kind}; drop it")
        if self.run.best_by in ("accuracy", "f1") and kind == "regression":
            raise UsageError(f"--best-by {self.run.best_by} is for classes, not for {kind}; choose loss, or drop it")


FEW_EXAMPLES = 5_000  # up to which a training from random weights takes the recipe of the sample

RECIPES: dict[str, dict[str, Any]] = {
    "finetune": {
        "min_steps": 200,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "layer_decay": 0.85,
        "weight_decay": 0.01,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        # Over so few steps, whose size shrinks to nothing, an average of weights is no better than the last ones.
        "ema_decay": 0.0,
        "label_smoothing": 0.0,
        "word_dropout": 0.0,
        # As in pre-training, but for attention: dropping its weights costs the fused kernel on a CPU.
        "hidden_dropout_prob": 0.1,
        "classifier_dropout": 0.1,
        "seq_len": 128,
    },
    "sample": {"preset": "tiny", "batch_size": 16, "learning_rate": 5e-4, "min_frequency": 1},
}


def suitable_recipe(config: TrainConfig, num_examples: int) -> str | None:
    """Returns the recipe for a base model, or for few examples; None where neither is given."""
    if config.model_name_or_path is not None:
        return "finetune"
    few = min(num_examples, config.data.max_train_samples or inf) <= FEW_EXAMPLES
    return SAMPLE if few and not config.distillation.unlabelled else None


def resolve(recipe: str | None, preset: str | None) -> dict[str, Any]:
    """Looks up the settings that a recipe and a preset stand for; the recipe wins over the preset's sizes."""
    for option, name, table in (("--recipe", recipe, RECIPES), ("--preset", preset, PRESETS)):
        if name is not None and name not in table:
            raise UsageError(f"{option} {name} is unknown; choose one of {', '.join(table)}")
    settings = {} if recipe is None else {"recipe": recipe} | RECIPES[recipe]
    chosen = preset or settings.get("preset")
    return settings if chosen is None else PRESETS[chosen] | settings | {"preset": chosen}


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-train a hand-written BERT on unlabelled text by predicting masked tokens, from random weights or continuing from a checkpoint."""

    task = "masked-language-modelling"

    model_name_or_path: str | None = None
    """Pre-trained BERT, DistilBERT or RoBERTa to continue from, with its own vocabulary and a lower learning rate, 1e-4: a folder, or a hub id such as google-bert/bert-base-uncased."""
    corpus: tuple[str, ...] = (f"{IMDB}:train", f"{IMDB}:unsupervised")
    """Texts, read one after the other: SOURCE or SOURCE:SPLIT, where SOURCE is a hub id, a folder in the hub's layout or of .txt files, or a .txt (blank lines divide documents), .jsonl, .csv or .tsv file."""
    text_column: str | None = None
    """Column that holds the text, in every source that has columns; unset: the one named sentence, text, review, content or tweet."""
    preset: str = "mini"
    """Size of the model (layers/width): nano 1/128, tiny 2/128, mini 4/256, small 4/512, medium 8/512, base 12/768, large 24/1024."""
    tokenization: TokenizerConfig = TokenizerConfig(tokenizer="wordpiece")
    model: BertConfig = BertConfig(
        **PRESETS["mini"],
        vocab_size=8192,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
        initializer_range=0.05,
    )
    optimization: PretrainingConfig = PretrainingConfig(
        batch_size=32,
        mask_rate=0.3,
        mask_replacement="mask",
        weight_decay=0.01,
        adam_beta2=0.98,
        adam_epsilon=1e-6,
        ema_decay=0.0,
    )
    run: RunConfig = RunConfig(save_every=1000)

    def __post_init__(self) -> None:
        if not self.corpus:
            raise UsageError("--corpus names no text; give at least one source")
        if self.run.best_by == "f1":
            raise UsageError("--best-by f1 is for classifiers; choose accuracy or loss")
        _require_parts_that_fit(self)


def _require_parts_that_fit(config: TrainConfig | PretrainConfig) -> None:
    longest, base, output_dir = config.model.longest_sequence, config.model_name_or_path, config.run.output_dir
    # A checkpoint has positions of its own.
    fits: Rule = (lambda T: base is not None or longest >= T, f"exceeds the {longest} positions of the model")
    require(config.tokenization, fits, "seq_len")
    if base is not None and output_dir is not None and Path(base).resolve() == output_dir.resolve():
        raise UsageError(f"--output-dir {output_dir} would replace the model to begin with; choose another")


def with_options(config: Config, options: dict[str, Any]) -> Config:
    """Replaces options of a config by their names, which are unique across its groups."""
    if unknown := options.keys() - options_of(config).keys():
        raise UsageError(f"there is no setting named {', '.join(sorted(unknown))}; see python -m src.train --help")
    changed = {}
    for name in (f.name for f in fields(config)):  # type: ignore[arg-type]
        value = getattr(config, name)
        if is_dataclass(value):
            changed[name] = with_options(value, {key: options[key] for key in options_of(value) if key in options})
        elif name in options:
            changed[name] = options[name]
    return replace(config, **changed)  # type: ignore[type-var]


def options_of(config: Any) -> dict[str, Any]:
    """Flattens a config into option name to value."""
    options: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        options |= options_of(value) if is_dataclass(value) else {f.name: value}
    return options
