"""Makes weights/bert-sst2, the checkpoint that comes with the repository, out of a finished run.

    python -m src.train --model-name-or-path weights/bert-imdb-more --epochs 1 --learning-rate 2e-4 --layer-decay 1 \\
        --ema-decay 0.999 --calibration 0.1 --output-dir weights/RUN
    python -m tests.benchmarks.shipped weights/RUN

Trained so, its confidence agrees with its accuracy: a temperature is fitted on phrases that it was not trained on, and
stays with the weights, which it divides. The weights are stored as float16, half the size; readers compute in float32.
A test compares what they score then with what the run's card says.
"""

import argparse
from pathlib import Path

import torch

from src.interop.huggingface import load_classifier, save_classifier
from src.interop.model_card import classifier_card
from src.utils.config import SHIPPED_CHECKPOINT
from src.utils.files import new_folder, read_json

LARGEST_MIB = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run of src.train")
    run = parser.parse_args().run
    with new_folder(SHIPPED_CHECKPOINT) as folder:
        save_classifier(folder, load_classifier(run), torch.float16)
        card = classifier_card(read_json(run / "run.json"), read_json(run / "evaluation-validation.json"))
        (folder / "README.md").write_text(card)
        size = (folder / "model.safetensors").stat().st_size / 2**20
        if size > LARGEST_MIB:
            raise SystemExit(f"{run}: {size:.0f} MiB of weights, the repository takes {LARGEST_MIB}")


if __name__ == "__main__":
    main()
