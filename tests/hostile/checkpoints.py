"""Hostile model folders: what is done to a good one, and what the error must name, or None where it does no harm."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Damage = Callable[[Path], object]

WEIGHTS, CONFIG, TOKENIZER, MANIFEST = "model.safetensors", "config.json", "tokenizer.json", "manifest.json"
MARKER = "executed"  # the file that appears beside the folder if anything of it is executed
WORDS, QUERY = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"
TOO_MUCH = 2**43  # bytes, more than any machine has memory


class Payload:
    """What touches the marker when it is unpickled."""

    def __init__(self, folder: Path):
        self.marker = folder.parent / MARKER

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def write_pickle(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Payload(folder)))


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"weights": Payload(folder)}, folder / "pytorch_model.bin")


def code(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder.parent / MARKER)!r}, 'w')\n")
    change_json(CONFIG, auto_map={"AutoModel": "modeling.Model"}, trust_remote_code=True)(folder)
    change_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.Tokenizer", None]})(folder)


def change_json(name: str, **changes: object) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def write(name: str, content: str | bytes) -> Damage:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def change_tensor(name: str, edit: Callable[[Tensor], Tensor | None], source: str = QUERY) -> Damage:
    """Replaces one tensor by what an edit makes of another; None removes it."""

    def damage(folder: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in load_file(folder / WEIGHTS).items()}
        edited = edit(tensors[source])
        (folder / WEIGHTS).unlink()
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        save_file(others if edited is None else others | {name: edited.contiguous()}, folder / WEIGHTS)

    return damage


def overflow(folder: Path) -> None:
    tensors = {name: tensor.sign() * 3e38 for name, tensor in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS)


def terabytes(folder: Path) -> None:
    """A file of holes that is as large as it says and has the shapes that config.json says."""
    rows = TOO_MUCH // 4 // 32
    header = json.dumps({WORDS: {"dtype": "F32", "shape": [rows, 32], "data_offsets": [0, TOO_MUCH]}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(folder / WEIGHTS, 8 + len(header) + TOO_MUCH)
    change_json(CONFIG, vocab_size=rows)(folder)


def link(name: str, target: str, moved: bool = False) -> Damage:
    """Leaves a link in a file's place, to where it is moved itself or to another file."""

    def damage(folder: Path) -> None:
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / target) if moved else (folder / name).unlink()
        (folder / name).symlink_to(folder / target)

    return damage


def pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def segments(kind: int) -> dict[str, Any]:
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name in "AB")
    return {"type": "TemplateProcessing", "single": [first], "pair": [first, second], "special_tokens": {}}


PADDING = {
    "strategy": {"Fixed": 10**10},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}
LARGE = "[" + "[]," * 6_000_000 + "1]"

CHECKPOINTS: dict[str, tuple[Damage, str | None]] = {
    "only a pickle": (only_pickle, "pytorch_model.bin"),
    "a pickle named model.safetensors": (write_pickle(WEIGHTS), WEIGHTS),
    "a pickle beside the weights": (write_pickle("pytorch_model.bin"), None),
    "auto_map and trust_remote_code": (code, None),
    "weights cut short": (cut(WEIGHTS), WEIGHTS),
    "a header of a petabyte": (write(WEIGHTS, struct.pack("<Q", 10**15) + b"{}"), WEIGHTS),
    "integers": (change_tensor(QUERY, lambda tensor: tensor.int()), f"{QUERY} holds torch.int32"),
    "another shape": (change_tensor(WORDS, lambda tensor: tensor[:, :31], WORDS), "(99, 31), config.json makes it (99, 32)"),
    "a missing tensor": (change_tensor(QUERY, lambda tensor: None), QUERY),
    "a scalar classifier": (change_tensor("classifier.weight", lambda tensor: tensor.sum()), "shape ()"),
    "a tensor under two names": (change_tensor(f"module.{WORDS}", lambda tensor: tensor + 1, WORDS), WORDS),
    "NaN": (change_tensor(QUERY, lambda tensor: tensor * float("nan")), QUERY),
    "logits that overflow": (overflow, "logits"),
    "a tensor of no use": (change_tensor("evil\n\x1b[2J", lambda tensor: tensor * float("nan")), None),
    "terabytes of zeros": (terabytes, f"{TOO_MUCH:,}"[:9]),
    "hidden_size of a billion": (change_json(CONFIG, hidden_size=10**9), CONFIG),
    "a billion layers": (change_json(CONFIG, num_hidden_layers=10**9), "1000000000 layers"),
    "a vocabulary of a trillion": (change_json(CONFIG, vocab_size=10**12), "(1000000000000, 32)"),
    "more classes than scores": (change_json(CONFIG, id2label={str(n): str(n) for n in range(9)}), "(5, 32), config.json makes it (9, 32)"),
    "a config.json of 18 MB": (write(CONFIG, LARGE), f"{len(LARGE):,} bytes"),
    "tokenizer.json cut short": (cut(TOKENIZER), TOKENIZER),
    "a tokenizer.json of 72 MB": (write(TOKENIZER, LARGE * 4), f"{4 * len(LARGE):,} bytes"),
    "a normalizer that panics": (change_json(TOKENIZER, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), TOKENIZER),
    "an unknown token that is missing": (change_json(TOKENIZER, model={"type": "WordLevel", "vocab": {"[CLS]": 2, "[SEP]": 3}, "unk_token": "[NO]"}), TOKENIZER),
    "padding to billions": (change_json(TOKENIZER, padding=PADDING), None),
    "unknown segments": (change_json(TOKENIZER, post_processor=segments(7)), TOKENIZER),
    "model_max_length NaN": (change_json("tokenizer_config.json", model_max_length=float("nan")), "model_max_length nan"),
    "config.json links to a secret": (link(CONFIG, "/etc/passwd"), f"{CONFIG} links"),
    "weights link out of the folder": (link(WEIGHTS, f"../{WEIGHTS}", moved=True), f"{WEIGHTS} links"),
    "weights link into the folder": (link(WEIGHTS, "more/weights", moved=True), None),
    "tokenizer.json is a device": (link(TOKENIZER, "/dev/zero"), f"{TOKENIZER} is not a regular file"),
    "weights are a pipe": (pipe, f"{WEIGHTS} is not a regular file"),
    "a manifest of files above": (write(MANIFEST, '{"../secret": {}}'), "'../secret'"),
    "a manifest with NUL in a name": (write(MANIFEST, r'{"a\u0000b": {}}'), "cannot be read"),
    "a manifest of other sums": (write(MANIFEST, f'{{"{CONFIG}": {{"bytes": 1, "sha256": "0"}}}}'), f"{CONFIG} is damaged"),
}  # fmt: skip
