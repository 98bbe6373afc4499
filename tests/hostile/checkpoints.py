"""Model folders that lie: what is done to a good one, and what the refusal says, or None where it does no harm."""

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
TERABYTE = 2**40


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


def torch_file(folder: Path) -> None:
    torch.save({"weights": Payload(folder)}, folder / WEIGHTS)


def code(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder.parent / MARKER)!r}, 'w')\n")
    change_json(CONFIG, auto_map={"AutoModelForSequenceClassification": "modeling.Model"}, trust_remote_code=True)(
        folder
    )
    change_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.Tokenizer", None]})(folder)


def change_json(name: str, **changes: object) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def write(name: str, content: str | bytes) -> Damage:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def insert(name: str, text: str) -> Damage:
    """Puts text behind the first brace."""
    return lambda folder: (folder / name).write_text("{" + text + (folder / name).read_text()[1:])


def change_tensors(edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
        (folder / WEIGHTS).unlink()
        save_file(edit(tensors), folder / WEIGHTS)

    return damage


def change_header(edit: Callable[[dict[str, Any]], object]) -> Damage:
    """Changes the table of contents, and leaves the numbers."""

    def damage(folder: Path) -> None:
        header, numbers = parts(folder)
        edit(header)
        (folder / WEIGHTS).write_bytes(safetensors(json.dumps(header).encode(), numbers))

    return damage


def parts(folder: Path) -> tuple[dict[str, Any], bytes]:
    raw = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def safetensors(header: bytes, numbers: bytes = b"", claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + numbers


def key_twice(folder: Path) -> None:
    header, numbers = parts(folder)
    text = json.dumps(header)
    entry = json.dumps(header[QUERY])
    text = text[:-1] + f", {json.dumps(QUERY)}: {entry}" + "}"
    (folder / WEIGHTS).write_bytes(safetensors(text.encode(), numbers))


def a_terabyte(folder: Path) -> None:
    """A file of holes that is as large as it says and has the shapes that config.json says."""
    header, _ = parts(folder)
    rows = TERABYTE // 4 // header[WORDS]["shape"][1]
    header = {WORDS: {"dtype": "F32", "shape": [rows, header[WORDS]["shape"][1]], "data_offsets": [0, TERABYTE]}}
    start = safetensors(json.dumps(header).encode())
    (folder / WEIGHTS).write_bytes(start)
    os.truncate(folder / WEIGHTS, len(start) + TERABYTE)
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


def folder_instead(folder: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()


def pipe(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def index(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    name = f"{WEIGHTS}.index.json"
    (folder / name).write_text(json.dumps({"weight_map": {WORDS: f"../{WEIGHTS}"}}))


def change_tokenizer(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / TOKENIZER).read_text())
        edit(content)
        (folder / TOKENIZER).write_text(json.dumps(content))

    return damage


def template(count: int = 1, token_id: int = 2, segment: int = 0) -> dict[str, Any]:
    frame = [{"SpecialToken": {"id": "[CLS]", "type_id": segment}}] * count
    first, second = ({"Sequence": {"id": name, "type_id": segment}} for name in "AB")
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [token_id], "tokens": ["[CLS]"]}}
    kind = {"type": "TemplateProcessing", "single": [*frame, first], "pair": [*frame, first, second]}
    return kind | {"special_tokens": tokens}


def normalizers(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 99}
PADDING: dict[str, Any] = {"strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
DEEP = '{"x":' * 200_000 + "1" + "}" * 200_000
EMPTY_LISTS = "[" + "[]," * 6_000_000 + "1]"

EXECUTABLE: dict[str, tuple[Damage, str | None]] = {
    "a pickle alone": (only_pickle, "pytorch_model.bin, a pickle that could run code"),
    "a pickle called safetensors": (write_pickle(WEIGHTS), "model.safetensors cannot be read (it claims a header of"),
    "an archive of pickles called safetensors": (torch_file, "model.safetensors cannot be read (it claims a header of"),
    "a pickle beside": (write_pickle("pytorch_model.bin"), None),
    "a pickle called config.json": (write_pickle(CONFIG), "config.json cannot be read"),
    "a pickle called tokenizer.json": (write_pickle(TOKENIZER), "tokenizer.json cannot be read"),
    "code of its own": (code, None),
    "code of its own for a model of its own": (change_json(CONFIG, model_type="mine", auto_map={}), "model_type 'mine'"),
}  # fmt: skip
TENSORS: dict[str, tuple[Damage, str | None]] = {
    "nothing": (write(WEIGHTS, b""), "model.safetensors cannot be read"),
    "cut short": (cut(WEIGHTS), "model.safetensors cannot be read"),
    "a header of petabytes": (write(WEIGHTS, safetensors(b"{}", claimed=10**15)), "claims a header of 1,000,000,000,000,000"),
    "a header of more than there is": (write(WEIGHTS, safetensors(b"{}", claimed=10**5)), "model.safetensors cannot be read"),
    "a header of millions of blanks": (write(WEIGHTS, safetensors(b"{}" + b" " * 5_000_000)), "claims a header of 5,000,002"),
    "a header that is no JSON": (write(WEIGHTS, safetensors(b"{'a': 1}")), "model.safetensors cannot be read"),
    "a header of many levels": (write(WEIGHTS, safetensors(DEEP[:900_000].encode())), "model.safetensors cannot be read"),
    "a header of no tensors": (write(WEIGHTS, safetensors(b"{}")), "holds no classifier"),
    "a name twice": (key_twice, "model.safetensors cannot be read"),
    "tensors that overlap": (change_header(lambda header: header[QUERY].update(data_offsets=header[WORDS]["data_offsets"])), "model.safetensors cannot be read"),
    "tensors beyond the file": (change_header(lambda header: header[QUERY].update(data_offsets=[10**9, 10**9 + 4096])), "model.safetensors cannot be read"),
    "tensors that end before they begin": (change_header(lambda header: header[QUERY].update(data_offsets=[4096, 0])), "model.safetensors cannot be read"),
    "a shape below nothing": (change_header(lambda header: header[QUERY].update(shape=[-32, -32])), "model.safetensors cannot be read"),
    "a shape beyond all numbers": (change_header(lambda header: header[QUERY].update(shape=[2**40, 2**40])), "model.safetensors cannot be read"),
    "a shape that its bytes are not": (change_header(lambda header: header[QUERY].update(shape=[2, 32])), "model.safetensors cannot be read"),
    "a kind of numbers nobody knows": (change_header(lambda header: header[QUERY].update(dtype="F31")), "model.safetensors cannot be read"),
    "whole numbers": (change_tensors(lambda state: state | {QUERY: state[QUERY].int()}), f"{QUERY} holds torch.int32, no fractions"),
    "whole numbers everywhere": (change_tensors(lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()}), "holds torch.int8, no fractions"),
    "complex numbers": (change_tensors(lambda state: state | {WORDS: state[WORDS].to(torch.complex64)}), "holds torch.complex64, no fractions"),
    "a tensor of another shape": (change_tensors(lambda state: state | {WORDS: state[WORDS][:, :31].contiguous()}), "has shape (99, 31), config.json makes it (99, 32)"),
    "parts of different shapes": (change_tensors(lambda state: state | {QUERY: state[QUERY][:31].contiguous()}), "have different shapes"),
    "a missing tensor": (change_tensors(lambda state: {name: state[name] for name in state if name != QUERY}), f"lacks {QUERY}"),
    "a number for a classifier": (change_tensors(lambda state: state | {"classifier.weight": torch.tensor(1.0)}), "the classifier has shape ()"),
    "a classifier of no classes": (change_tensors(lambda state: state | {"classifier.weight": torch.zeros(0, 32)}), "the classifier has shape (0, 32)"),
    "a tensor under two spellings": (change_tensors(lambda state: state | {f"module.{WORDS}": state[WORDS] + 1}), "stands twice in the checkpoint, under two spellings"),
    "what is no number": (change_tensors(lambda state: state | {QUERY: state[QUERY] * float("nan")}), "holds NaN or infinity"),
    "infinity": (change_tensors(lambda state: state | {WORDS: state[WORDS] / 0}), "holds NaN or infinity"),
    "numbers that overflow": (change_tensors(lambda state: {name: tensor.sign() * 3e38 for name, tensor in state.items()}), "logits are not all finite"),
    "tensors nobody asked for": (change_tensors(lambda state: state | {"evil\n\x1b[2J": torch.zeros(3)}), None),
    "a terabyte of holes": (a_terabyte, "such a file never more than"),
    "an index to elsewhere": (index, "model.safetensors is missing"),
}  # fmt: skip
CONFIGS: dict[str, tuple[Damage, str | None]] = {
    "a width of a billion": (change_json(CONFIG, hidden_size=10**9), "its sizes are beyond any"),
    "a billion layers": (change_json(CONFIG, num_hidden_layers=10**9), "which config.json says is there"),
    "a trillion tokens": (change_json(CONFIG, vocab_size=10**12), "config.json makes it"),
    "a trillion positions": (change_json(CONFIG, max_position_embeddings=10**12), "config.json makes it"),
    "a trillion segments": (change_json(CONFIG, type_vocab_size=10**12), "config.json makes it"),
    "a feed-forward layer of a billion": (change_json(CONFIG, intermediate_size=10**9), "config.json makes it"),
    "sizes beyond all numbers": (change_json(CONFIG, hidden_size=4 * 10**15, vocab_size=10**15), "its sizes are beyond any"),
    "a size of thousands of digits": (change_json(CONFIG, hidden_size=10**4000), "its sizes are beyond any"),
    "no width": (change_json(CONFIG, hidden_size=0), "hidden_size"),
    "a width below nothing": (change_json(CONFIG, hidden_size=-32), "hidden_size"),
    "a width in words": (change_json(CONFIG, hidden_size="32"), "hidden_size is '32', no int"),
    "a width that is a truth value": (change_json(CONFIG, num_hidden_layers=True), "num_hidden_layers is True, no int"),
    "a width that is a list": (change_json(CONFIG, hidden_size=[32]), "hidden_size is [32], no int"),
    "an epsilon beyond all numbers": (change_json(CONFIG, layer_norm_eps=10**400), "layer_norm_eps is 1000"),
    "an endless deviation": (change_json(CONFIG, initializer_range=float("inf")), "initializer_range is inf, no float"),
    "an epsilon that is no number": (change_json(CONFIG, layer_norm_eps=float("nan")), "layer_norm_eps"),
    "a dropout above one": (change_json(CONFIG, hidden_dropout_prob=1.5), "hidden_dropout_prob"),
    "another family": (change_json(CONFIG, model_type="gpt2"), "model_type 'gpt2' is not supported"),
    "a family that is a list": (change_json(CONFIG, model_type=["bert"]), "model_type ['bert'] is not supported"),
    "classes numbered from a billion": (change_json(CONFIG, id2label={"1000000000": "x"}), "must number its classes 0, 1, 2"),
    "classes more than scored": (change_json(CONFIG, id2label={str(n): str(n) for n in range(9)}), "scores 5 classes, config.json names 9"),
    "classes that are a list": (change_json(CONFIG, id2label=["a"]), "id2label must map"),
    "a list": (write(CONFIG, "[]"), "not a JSON object"),
    "many levels": (write(CONFIG, DEEP), "config.json cannot be read as JSON"),
    "millions of lists": (write(CONFIG, EMPTY_LISTS), "such a file never more than"),
    "a key twice": (insert(CONFIG, '"hidden_size": 7, '), "key 'hidden_size' stands twice"),
    "bytes that are no text": (write(CONFIG, b'{"model_type": "\xff"}'), "config.json cannot be read as JSON"),
    "a number of thousands of digits": (insert(CONFIG, f'"x": {"9" * 5000}, '), "config.json cannot be read as JSON"),
    "nothing": (write(CONFIG, b""), "config.json cannot be read as JSON"),
}  # fmt: skip
TOKENIZERS: dict[str, tuple[Damage, str | None]] = {
    "cut short": (cut(TOKENIZER), "tokenizer.json cannot be read"),
    "many levels": (write(TOKENIZER, DEEP[:590_000]), "tokenizer.json cannot be read"),
    "millions of lists": (write(TOKENIZER, EMPTY_LISTS[:15_000_000]), "holds more than 600,000 values"),
    "too large": (write(TOKENIZER, " " * 20_000_000), "such a file never more than"),
    "a key twice": (insert(TOKENIZER, '"model": null, '), "key 'model' stands twice"),
    "no model": (change_tokenizer(lambda content: content.pop("model")), "tokenizer.json cannot be read"),
    "a list": (write(TOKENIZER, "[]"), "tokenizer.json cannot be read"),
    "a model that panics": (change_tokenizer(lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})), "normalizer 'Precompiled' is none of"),
    "pieces of no length": (change_tokenizer(lambda content: content.update(pre_tokenizer={"type": "FixedLength", "length": 0})), "pre_tokenizer 'FixedLength' is none of"),
    "a part nobody knows": (change_tokenizer(lambda content: content["model"].update(type="Mine")), "model 'Mine' is none of"),
    "text that multiplies": (change_tokenizer(lambda content: content.update(normalizers(BOMB, BOMB, BOMB))), "970,299 times as long"),
    "a pattern that is broken": (change_tokenizer(lambda content: content.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Removed", "invert": False})), "tokenizer.json cannot be read"),
    "no word for unknown ones": (change_tokenizer(lambda content: content["model"].update(unk_token="[NO]")), "tokenizer.json cannot be used"),
    "padding to billions": (change_tokenizer(lambda content: content.update(padding=PADDING)), None),
    "a frame of a million tokens": (change_tokenizer(lambda content: content.update(post_processor=template(count=1_000))), "frames texts as no model"),
    "a frame of unknown tokens": (change_tokenizer(lambda content: content.update(post_processor=template(token_id=10**9))), "its largest id is 1000000000"),
    "a frame of unknown segments": (change_tokenizer(lambda content: content.update(post_processor=template(segment=7))), "frames texts as no model"),
    "more tokens than the model": (change_tokenizer(lambda content: content["model"]["vocab"].update(beyond=99)), "its largest id is 99, config.json says vocab_size = 99"),
    "an id below nothing": (change_tokenizer(lambda content: content["model"]["vocab"].update(beyond=-1)), "tokenizer.json cannot be read"),
    "a length below nothing": (change_json("tokenizer_config.json", model_max_length=-5), "model_max_length -5"),
    "a length that is no number": (change_json("tokenizer_config.json", model_max_length=float("nan")), "model_max_length nan"),
}  # fmt: skip
PATHS: dict[str, tuple[Damage, str | None]] = {
    "config.json elsewhere": (move_and_link(CONFIG, f"../{CONFIG}"), "links to a file outside its folder"),
    "weights elsewhere": (move_and_link(WEIGHTS, f"../{WEIGHTS}"), "links to a file outside its folder"),
    "the tokenizer elsewhere": (move_and_link(TOKENIZER, f"../{TOKENIZER}"), "links to a file outside its folder"),
    "a secret": (link(CONFIG, "/etc/passwd"), "links to a file outside its folder"),
    "a link inside": (move_and_link(WEIGHTS, "more/weights"), None),
    "a link to itself": (link(CONFIG, CONFIG), "config.json cannot be read"),
    "a link to nothing": (link(CONFIG, "nothing"), "config.json is missing"),
    "a device that never ends": (link(TOKENIZER, "/dev/zero"), "is no ordinary file"),
    "a pipe nobody writes to": (pipe(CONFIG), "is no ordinary file"),
    "weights from a pipe": (pipe(WEIGHTS), "is no ordinary file"),
    "a folder": (folder_instead, "config.json cannot be read"),
    "a manifest of files above": (write(MANIFEST, '{"../secret": {}}'), "lists '../secret', no file of this folder"),
    "a manifest of files anywhere": (write(MANIFEST, '{"/etc/passwd": {}}'), "lists '/etc/passwd', no file of this folder"),
    "a manifest of files below": (write(MANIFEST, '{"more/weights": {}}'), "lists 'more/weights', no file of this folder"),
    "a manifest of the folder itself": (write(MANIFEST, '{"": {}, ".": {}, "..": {}}'), "manifest"),
    "a manifest with a name of thousands of letters": (write(MANIFEST, json.dumps({"x" * 5000: {}})), "cannot be read (File name too long)"),
    "a manifest with NUL in a name": (write(MANIFEST, r'{"a\u0000b": {}}'), "cannot be read (embedded null byte)"),
    "a manifest with half a surrogate pair": (write(MANIFEST, r'{"\ud800": {}}'), "cannot be read"),
    "a manifest of links": (lambda folder: (link("more", "/etc/passwd")(folder), write(MANIFEST, '{"more": {}}')(folder)), "links to a file outside its folder"),
    "a manifest without sums": (write(MANIFEST, f'{{"{CONFIG}": null}}'), "config.json is damaged"),
    "a manifest of other sums": (write(MANIFEST, f'{{"{CONFIG}": {{"bytes": 1, "sha256": "0"}}}}'), "config.json is damaged"),
}  # fmt: skip

GROUPS = {"code": EXECUTABLE, "weights": TENSORS, "config": CONFIGS, "tokenizer": TOKENIZERS, "path": PATHS}
CHECKPOINTS = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}
