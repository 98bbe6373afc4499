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


def change_tensors(edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
        (folder / WEIGHTS).unlink()
        save_file(edit(tensors), folder / WEIGHTS)

    return damage


def parts(folder: Path) -> tuple[dict[str, Any], bytes]:
    raw = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def safetensors(header: bytes, numbers: bytes = b"", claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + numbers


def key_twice(folder: Path) -> None:
    header, numbers = parts(folder)
    again = f"{{{json.dumps(QUERY)}: {json.dumps(header[QUERY])}, "
    (folder / WEIGHTS).write_bytes(safetensors((again + json.dumps(header)[1:]).encode(), numbers))


def terabytes(folder: Path) -> None:
    """A file of holes that is as large as it says and has the shapes that config.json says."""
    header, _ = parts(folder)
    rows = TOO_MUCH // 4 // header[WORDS]["shape"][1]
    header = {WORDS: {"dtype": "F32", "shape": [rows, header[WORDS]["shape"][1]], "data_offsets": [0, TOO_MUCH]}}
    start = safetensors(json.dumps(header).encode())
    (folder / WEIGHTS).write_bytes(start)
    os.truncate(folder / WEIGHTS, len(start) + TOO_MUCH)
    change_json(CONFIG, vocab_size=rows)(folder)


def link(name: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


def move_and_link(name: str, where: str) -> Damage:
    """Moves a file elsewhere, seen from the folder, and leaves a link to it."""

    def damage(folder: Path) -> None:
        target = folder / where
        target.parent.mkdir(exist_ok=True)
        (folder / name).rename(target)
        (folder / name).symlink_to(target)

    return damage


def pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def change_tokenizer(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / TOKENIZER).read_text())
        edit(content)
        (folder / TOKENIZER).write_text(json.dumps(content))

    return damage


def template(count: int = 1, segment: int = 0) -> dict[str, Any]:
    frame = [{"SpecialToken": {"id": "[CLS]", "type_id": segment}}] * count
    first, second = ({"Sequence": {"id": name, "type_id": segment}} for name in "AB")
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    kind = {"type": "TemplateProcessing", "single": [*frame, first], "pair": [*frame, first, second]}
    return kind | {"special_tokens": tokens}


def normalizers(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 99}
PADDING: dict[str, Any] = {"strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
DEEP = '{"x":' * 200_000 + "1" + "}" * 200_000
EMPTY_LISTS = "[" + "[]," * 6_000_000 + "1]"

CODE: dict[str, tuple[Damage, str | None]] = {
    "only a pickle": (only_pickle, "pytorch_model.bin"),
    "a pickle named model.safetensors": (write_pickle(WEIGHTS), WEIGHTS),
    "a pickle beside the weights": (write_pickle("pytorch_model.bin"), None),
    "auto_map and trust_remote_code": (code, None),
}  # fmt: skip
TENSORS: dict[str, tuple[Damage, str | None]] = {
    "cut short": (cut(WEIGHTS), WEIGHTS),
    "a header of a petabyte": (write(WEIGHTS, safetensors(b"{}", claimed=10**15)), "1,000,000,000,000,000"),
    "a name twice": (key_twice, QUERY),
    "integers": (change_tensors(lambda state: state | {QUERY: state[QUERY].int()}), f"{QUERY} holds torch.int32"),
    "another shape": (change_tensors(lambda state: state | {WORDS: state[WORDS][:, :31].contiguous()}), "(99, 31), config.json makes it (99, 32)"),
    "query and key of different shapes": (change_tensors(lambda state: state | {QUERY: state[QUERY][:31].contiguous()}), QUERY),
    "a missing tensor": (change_tensors(lambda state: {name: state[name] for name in state if name != QUERY}), QUERY),
    "a scalar classifier": (change_tensors(lambda state: state | {"classifier.weight": torch.tensor(1.0)}), "shape ()"),
    "a tensor under two names": (change_tensors(lambda state: state | {f"module.{WORDS}": state[WORDS] + 1}), WORDS),
    "NaN": (change_tensors(lambda state: state | {QUERY: state[QUERY] * float("nan")}), "NaN"),
    "logits that overflow": (change_tensors(lambda state: {name: tensor.sign() * 3e38 for name, tensor in state.items()}), "logits"),
    "a tensor of no use": (change_tensors(lambda state: state | {"evil\n\x1b[2J": torch.zeros(3)}), None),
    "terabytes of zeros": (terabytes, f"{TOO_MUCH:,}"[:9]),
}  # fmt: skip
CONFIGS: dict[str, tuple[Damage, str | None]] = {
    "hidden_size of a billion": (change_json(CONFIG, hidden_size=10**9), CONFIG),
    "a billion layers": (change_json(CONFIG, num_hidden_layers=10**9), "1000000000 layers"),
    "a vocabulary of a trillion": (change_json(CONFIG, vocab_size=10**12), "(1000000000000, 32)"),
    "hidden_size in a string": (change_json(CONFIG, hidden_size="32"), "hidden_size is '32'"),
    "an infinite initializer_range": (change_json(CONFIG, initializer_range=float("inf")), "initializer_range is inf"),
    "classes numbered from a billion": (change_json(CONFIG, id2label={"1000000000": "x"}), "id2label"),
    "more classes than scores": (change_json(CONFIG, id2label={str(n): str(n) for n in range(9)}), "5 classes, config.json names 9"),
    "18 MB": (write(CONFIG, EMPTY_LISTS), f"{len(EMPTY_LISTS):,} bytes"),
}  # fmt: skip
TOKENIZERS: dict[str, tuple[Damage, str | None]] = {
    "cut short": (cut(TOKENIZER), TOKENIZER),
    "millions of values": (write(TOKENIZER, EMPTY_LISTS[:15_000_000]), "600,000 values"),
    "a normalizer that panics": (change_tokenizer(lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})), "'Precompiled'"),
    "text that multiplies": (change_tokenizer(lambda content: content.update(normalizers(BOMB, BOMB, BOMB))), "970,299 times"),
    "an unknown token that is missing": (change_tokenizer(lambda content: content["model"].update(unk_token="[NO]")), TOKENIZER),
    "padding to billions": (change_tokenizer(lambda content: content.update(padding=PADDING)), None),
    "a frame of a thousand tokens": (change_tokenizer(lambda content: content.update(post_processor=template(count=1_000))), TOKENIZER),
    "a frame of unknown segments": (change_tokenizer(lambda content: content.update(post_processor=template(segment=7))), TOKENIZER),
    "more tokens than embeddings": (change_tokenizer(lambda content: content["model"]["vocab"].update(beyond=99)), "99"),
    "model_max_length NaN": (change_json("tokenizer_config.json", model_max_length=float("nan")), "model_max_length nan"),
}  # fmt: skip
PATHS: dict[str, tuple[Damage, str | None]] = {
    "config.json links to a secret": (link(CONFIG, "/etc/passwd"), f"{CONFIG} links"),
    "weights link out of the folder": (move_and_link(WEIGHTS, f"../{WEIGHTS}"), f"{WEIGHTS} links"),
    "weights link into the folder": (move_and_link(WEIGHTS, "more/weights"), None),
    "tokenizer.json is a device": (link(TOKENIZER, "/dev/zero"), f"{TOKENIZER} is no ordinary file"),
    "weights are a pipe": (pipe, f"{WEIGHTS} is no ordinary file"),
    "a manifest of files above": (write(MANIFEST, '{"../secret": {}}'), "'../secret'"),
    "a manifest with a name of 5,000 letters": (write(MANIFEST, json.dumps({"x" * 5000: {}})), "xxx"),
    "a manifest with NUL in a name": (write(MANIFEST, r'{"a\u0000b": {}}'), "cannot be read"),
    "a manifest of other sums": (write(MANIFEST, f'{{"{CONFIG}": {{"bytes": 1, "sha256": "0"}}}}'), f"{CONFIG} is damaged"),
}  # fmt: skip

GROUPS = {"code": CODE, "weights": TENSORS, "config": CONFIGS, "tokenizer": TOKENIZERS, "path": PATHS}
CHECKPOINTS = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}
