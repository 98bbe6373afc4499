"""Options of the programs that use a model: their fields are the options, the sentence under each is its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.utils.config import NOT_NEGATIVE, require
from src.utils.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvaluatedData:
    """Which texts a model answers to be judged by."""

    dataset: str | None = None
    """Data to evaluate on, named as for training; unset: the data the model was trained on."""
    split: str = "validation"
    """Split to evaluate on."""
    text_column: str | None = None
    """Column that holds the text; unset: the one named sentence, text, review or content."""
    label_column: str | None = None
    """Column that holds the label; unset: the one named label, labels, sentiment or class."""
    text_pair_column: str | None = None
    """Column that holds a second text, for models that compare two."""

    @property
    def is_named(self) -> bool:
        """Whether any option of the data but the split was given."""
        names = (self.dataset, self.text_column, self.label_column, self.text_pair_column)
        return any(name is not None for name in names)


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a program runs."""

    num_threads: int = 0
    """CPU threads to compute with; 0 leaves PyTorch's own choice."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(self, NOT_NEGATIVE, "num_threads")


@dataclass(frozen=True, kw_only=True)
class RunningOnDevice(Running):
    """How a program runs, and where."""

    device: str = "auto"
    """auto (CUDA when there, else CPU), cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class InferenceConfig(EvaluatedData, RunningOnDevice):
    """Evaluate a checkpoint on a data split, classify texts, or fill the gaps of one."""

    texts: tuple[str, ...]
    """Texts to classify; with none, and no --file, the checkpoint is evaluated."""
    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest run under weights/ of the kind that is needed, else (but for --fill-mask) the shipped one."""
    fill_mask: str | None = None
    """Name the tokens that would fit each [MASK] of this text, with a pre-trained checkpoint."""
    file: Path | None = None
    """Classify this file, one text a line; - is standard input."""
    pairs: bool = False
    """Each text is two, separated by a tab, for models that compare two."""
    output: Path | None = None
    """Write the results to this file instead of standard output."""
    json: bool = False
    """Print JSON: one object for an evaluation, one line a text for predictions."""
    examples: int = 10
    """Rows in the table of examples that an evaluation prints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, NOT_NEGATIVE, "examples")
        if self.texts and self.file is not None:
            raise UsageError("texts on the command line and --file are two inputs; give one of them")
        if self.fill_mask is not None and (self.texts or self.file is not None or self.is_named):
            raise UsageError("--fill-mask takes one text of its own; drop the other texts and all options of data")
        if self.pairs and not self.texts and self.file is None:
            raise UsageError("--pairs goes with texts or --file; an evaluation takes --text-pair-column")
        if self.dataset is not None and (self.texts or self.file is not None):
            raise UsageError("--dataset is evaluated, texts and --file are classified; give one of them")
        if self.file is not None and self.output is not None and self.file.resolve() == self.output.resolve():
            raise UsageError(f"--output {self.output} would overwrite --file; choose another")


@dataclass(frozen=True)
class ReportConfig(EvaluatedData, RunningOnDevice):
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
class ExportConfig(EvaluatedData, Running):
    """Write a trained classifier as an ONNX graph that equals it, or upload a model folder to the Hugging Face hub."""

    model_folder: tuple[Path, ...]
    """Folder this project or transformers wrote; with none, the newest run under weights/ that trained a classifier, else the shipped one."""
    output: Path | None = None
    """Write the graph, config.json and the tokenizer to this new folder; it appears only when the graph's logits equal the model's."""
    format: Literal["onnx"] = "onnx"
    """What to write there."""
    overwrite: bool = False
    """Replace an export that --output holds."""
    quantize: Literal["int8"] | None = None
    """Also write the graph with 8-bit weights (dynamic quantization), and print the accuracy of both."""
    push_to_hub: str | None = None
    """Upload the model folder, with its card, to this repository of the hub, OWNER/NAME."""
    private: bool = False
    """Make a new repository private."""
    license: str | None = None
    """License that the uploaded card names, in the hub's spelling such as apache-2.0; unset: what the folder's card says."""
    language: str | None = None
    """Language that the uploaded card names, such as en; unset: what the folder's card says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.model_folder) > 1:
            raise UsageError(f"{len(self.model_folder)} model folders are named; give one")
        if (self.output is None) == (self.push_to_hub is None):
            raise UsageError("--output writes an ONNX graph, --push-to-hub uploads the model; give one of them")
        if self.quantize is None and (self.split != "validation" or self.is_named):
            raise UsageError("data is named to measure what --quantize int8 costs; add it, or drop the options of data")
        if self.output is None and (self.quantize is not None or self.overwrite):
            raise UsageError("--quantize and --overwrite go with --output; an upload takes the model folder as it is")
        if self.push_to_hub is None and (self.private or self.license is not None or self.language is not None):
            raise UsageError("--private, --license and --language go with --push-to-hub; drop them")


@dataclass(frozen=True)
class ExplainConfig(RunningOnDevice):
    """Say what each word of a text contributes to the class the model predicts, by integrated gradients."""

    texts: tuple[str, ...]
    """Texts to explain."""
    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest classifier under weights/, else the shipped one."""
    file: Path | None = None
    """Explain this file, one text a line; - is standard input."""
    pairs: bool = False
    """Each text is two, separated by a tab, for models that compare two."""
    html: Path | None = None
    """Also write the coloured words to this HTML page."""
    attention: Path | None = None
    """Also draw the attention weights of all heads, of the one text given, into this PNG; they are no explanation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.texts) == (self.file is not None):
            raise UsageError("give texts on the command line, or --file, one of them")
        if self.attention is not None and len(self.texts) != 1:
            raise UsageError("--attention draws one text; give exactly one, on the command line")
        if self.html is not None and self.attention is not None and self.html.resolve() == self.attention.resolve():
            raise UsageError("--html and --attention name the same file; give them two")
        if self.html is not None and self.file is not None and self.html.resolve() == self.file.resolve():
            raise UsageError(f"--html {self.html} would overwrite --file; choose another")


@dataclass(frozen=True)
class DemoConfig(RunningOnDevice):
    """Serve a page to try a classifier on: sentences with reasons for the answers, and tables."""

    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest classifier under weights/, else the shipped one."""
    host: str = "127.0.0.1"
    """Address to listen at; 127.0.0.1 is this machine alone, 0.0.0.0 all that reach it."""
    port: int = 7860
    """Port to listen at."""
    share: bool = False
    """Also get a public link from gradio's servers, through which anybody who knows it may use the page."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, (lambda port: 0 < port < 65536, "must lie in 1 to 65535"), "port")
