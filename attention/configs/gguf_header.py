"""Reads the header of a GGUF file: its key/value pairs and its table of tensors, but no data of tensors.

The layout is in ggml-org/ggml, ``docs/gguf.md``: magic, version, two counts, the pairs, then a name, a shape, a type
and an offset for each tensor. Versions 2 and 3 are read, little- and big-endian. The file is not trusted: every length
and count is checked against a bound and against the bytes that are left. The tokenizer's texts are skipped, unless the
model is loaded.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from attention.errors import shown
from attention.files import ordinary

MAGIC = b"GGUF"
SUFFIX = ".gguf"
MAX_BYTES = 64 * 2**20
"""Longest header that is read. Published headers have up to about 20 MB; nearly all of it is the tokenizer."""
MAX_PAIRS = 10_000
MAX_TENSORS = 100_000
MAX_ITEMS = 4_000_000
"""Most entries of all arrays together; the largest published tokenizers have about a million."""
MAX_LIST = 20_000
"""Most entries of an array that is kept; of a longer array only the length is kept."""
MAX_TEXT = 10_000
"""Most bytes of a text that is kept; longer texts (chat templates) are skipped."""
MAX_WHOLE_TEXT = 2**20
"""The same bound where the model is loaded."""
MAX_NAME = 65_535
CACHE = "a GGUF states no dtype of the cache: fp16 is counted, llama.cpp's own choice unless it is told another"
"""A note that holds for every GGUF file."""
TENSORS = "gguf.tensors"
"""A key added by this module: elements of the tensors, see `_tensors`."""
_TEXT, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""struct's letter for each type of value: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 f32, 7 bool, 10 u64, 11 i64,
12 f64."""
_CHUNK = 2**20


class _Cursor:
    """Reads a file from its start, at most `MAX_BYTES` of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.data, self.at, self.order = file, bytearray(), 0, "<"
        self.size = os.fstat(file.fileno()).st_size
        self.items = 0
        self.whole = False

    def refuse(self, what: str, why: str) -> NoReturn:
        raise ValueError(f"{what} at byte {self.at:,} of this GGUF file {why}")

    def need(self, n_bytes: int, what: str) -> int:
        """Read the next `n_bytes` into `data` and move past them; returns the position of the first."""
        start, end = self.at, self.at + n_bytes
        if end > self.size:
            self.refuse(what, f"would take {n_bytes:,} bytes, and the file has {self.size - start:,} left")
        if end > MAX_BYTES:
            self.refuse(what, f"would make the header longer than the {MAX_BYTES:,} bytes that are read")
        while len(self.data) < end:
            more = self.file.read(max(_CHUNK, end - len(self.data)))
            if not more:
                self.refuse(what, "is missing: the file ends before it")
            self.data += more
        self.at = end
        return start

    def number(self, letter: str, what: str) -> Any:
        form = self.order + letter
        return struct.unpack_from(form, self.data, self.need(struct.calcsize(form), what))[0]

    def text(self, what: str, most: int) -> str | None:
        """The next text; None if it has more than `most` bytes, which are then skipped."""
        length = self.number("Q", f"the length of {what}")
        start = self.need(length, what)
        return self.data[start : self.at].decode("utf-8", "replace") if length <= most else None

    def skip_texts(self, n: int, what: str) -> None:
        """Skip `n` texts. The loop reads lengths itself for speed: a tokenizer has half a million texts."""
        length_at, at = struct.Struct(self.order + "Q").unpack_from, self.at
        for _ in range(n):
            if at + 8 > len(self.data):
                self.at = at
                self.need(8, what)
            (length,) = length_at(self.data, at)
            at += 8 + length
            if at > len(self.data):
                self.at = at - length
                self.need(length, what)
        self.at = at

    def count(self, what: str, least_bytes: int, most: int) -> int:
        """The number of entries that follow; each takes at least `least_bytes`, and there are at most `most`."""
        value: int = self.number("Q", what)
        if value > most or value * least_bytes > self.size - self.at:
            self.refuse(what, f"is {value:,}; at most {min(most, (self.size - self.at) // least_bytes):,} fit")
        return value


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The pairs of a file's header that describe the model, and under `TENSORS` the elements of its tensors.

    For an array that is too long to describe layers, and for an array of the tokenizer, the value is its length.

    Raises:
        ValueError: unreadable, not a GGUF file, cut off, or not within bounds; names the key, the value and what is
            accepted.
    """
    try:
        with ordinary(Path(path)).open("rb") as file:
            return _read(_Cursor(file))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)[:300]!r} cannot be read: {error.strerror}") from None


class TensorInfo(NamedTuple):
    """A tensor in a file's table.

    Attributes:
        name: the tensor's name.
        shape: the file's order: the fastest dimension comes first.
        type: ggml's number for the element type.
        offset: bytes from the start of the file, as `read_whole` gives it.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


def read_whole(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[TensorInfo]]:
    """All pairs of a file, with the tokenizer's texts, and its table of tensors: what loading the model needs.

    Raises:
        ValueError: as in :func:`read`, and for a big-endian file.
    """
    try:
        with ordinary(Path(path)).open("rb") as file:
            cursor = _Cursor(file)
            cursor.whole = True
            keys, n_tensors = _pairs(cursor)
            if cursor.order == ">":
                raise ValueError("this GGUF file is big-endian: its tensors cannot be read here")
            table = list(_table(cursor, n_tensors))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)[:300]!r} cannot be read: {error.strerror}") from None
    step = keys.get("general.alignment", 32)
    if not isinstance(step, int) or not 0 < step <= 2**16 or step & (step - 1):
        raise ValueError(f"general.alignment must be a power of two up to 65,536, got {shown(step)}")
    start = -(-cursor.at // step) * step
    return keys, [info._replace(offset=start + info.offset) for info in table]


def _read(cursor: _Cursor) -> dict[str, Any]:
    out, n_tensors = _pairs(cursor)
    if n_tensors:
        out[TENSORS] = _tensors(cursor, n_tensors)
    return out


def _pairs(cursor: _Cursor) -> tuple[dict[str, Any], int]:
    """(the pairs, the number of tensors that follow)."""
    magic = bytes(cursor.data[cursor.need(4, "the magic") : cursor.at])
    if magic != MAGIC:
        raise ValueError(f"this is no GGUF file: it begins with {magic!r}, not {MAGIC!r}")
    version = cursor.number("I", "the version")
    if version & 0xFFFF == 0:
        cursor.order, version = ">", int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        raise ValueError(f"the version of this GGUF file must be 2 or 3, got {version:,}")
    n_tensors = cursor.count("the number of tensors", 24, MAX_TENSORS)
    out: dict[str, Any] = {}
    seen: set[str] = set()
    for _ in range(cursor.count("the number of keys", 13, MAX_PAIRS)):
        key = cursor.text("a key", MAX_NAME)
        if not key:
            cursor.refuse("a key", f"must have between 1 and {MAX_NAME:,} bytes")
        if key in seen:
            raise ValueError(f"the key {shown(key)} occurs twice in this GGUF file")
        seen.add(key)
        skip = key.startswith("tokenizer.") and not cursor.whole
        value = _value(cursor, shown(key), cursor.number("I", "a value's type"), skip)
        if value is not None and not key.startswith("gguf."):
            out[key] = value
    return out, n_tensors


def _value(cursor: _Cursor, key: str, kind: int, skip: bool) -> Any:
    """One value; None if it is a text that is too long to keep."""
    if kind == _TEXT:
        return cursor.text(f"the text of {key}", 0 if skip else MAX_WHOLE_TEXT if cursor.whole else MAX_TEXT)
    if kind == _ARRAY:
        return _array(cursor, key, skip)
    return _checked(cursor, key, kind, cursor.number(_letter(key, kind), f"the value of {key}"))


def _letter(key: str, kind: int) -> str:
    if kind not in _FORMATS:
        raise ValueError(f"{key} has a value of type {kind:,}, which GGUF does not have (0 to 12)")
    return _FORMATS[kind]


def _checked(cursor: _Cursor, key: str, kind: int, value: Any) -> Any:
    if kind != 7:
        return value
    if value not in (0, 1):
        cursor.refuse(f"the truth value of {key}", f"must be 0 or 1, got {value}")
    return bool(value)


def _array(cursor: _Cursor, key: str, skip: bool) -> Any:
    """The entries of an array, or their number if they are not kept."""
    kind = cursor.number("I", f"the type of {key}'s entries")
    if kind == _ARRAY:
        raise ValueError(f"{key} is an array of arrays, which no known key is")
    width = 8 if kind == _TEXT else struct.calcsize("<" + _letter(key, kind))
    n = cursor.count(f"the length of {key}", width, MAX_ITEMS - cursor.items)
    cursor.items += n
    if kind == _TEXT and cursor.whole:
        return [cursor.text(f"an entry of {key}", MAX_WHOLE_TEXT) or "" for _ in range(n)]
    if kind == _TEXT:
        cursor.skip_texts(n, f"an entry of {key}")  # no known key of a model's layers is an array of texts
        return n
    start = cursor.need(n * width, f"the entries of {key}")
    if skip or (n > MAX_LIST and not cursor.whole):
        return n
    values = struct.unpack_from(f"{cursor.order}{n}{_letter(key, kind)}", cursor.data, start)
    return [_checked(cursor, key, kind, value) for value in values]


def _table(cursor: _Cursor, n_tensors: int) -> Iterator[TensorInfo]:
    """The table of tensors. Offsets are the file's own: bytes from the start of the tensors' data."""
    for _ in range(n_tensors):
        name = cursor.text("a tensor's name", MAX_NAME)
        n_dims = cursor.number("I", f"the number of dimensions of {shown(name)}")
        if n_dims > 4:
            cursor.refuse(f"the number of dimensions of {shown(name)}", f"must be at most 4, got {n_dims:,}")
        shape = tuple(cursor.number("Q", f"a dimension of {shown(name)}") for _ in range(n_dims))
        kind = cursor.number("I", f"the type of {shown(name)}")
        offset = cursor.number("Q", f"the offset of {shown(name)}")
        if (elements := math.prod(shape)) > 2**50:
            raise ValueError(f"the tensor {shown(name)} has {elements:,} elements; at most {2**50:,} are accepted")
        yield TensorInfo(name or "", shape, kind, offset)


def _tensors(cursor: _Cursor, n_tensors: int) -> dict[str, int]:
    """Number of elements by place: "output", "token_embd", a layer ("blk.3"), its routed experts ("blk.3 experts")."""
    out: dict[str, int] = {}
    for info in _table(cursor, n_tensors):
        parts = info.name.split(".")
        if parts[0].startswith("rope_") or parts[-2:-1] == ["rope_freqs"]:
            continue  # tables of positions, not parameters
        if parts[0] == "blk" and len(parts) > 2:
            place = f"blk.{parts[1]}" + (" experts" if "_exps" in parts[2] else "")
        else:
            place = parts[0]
        out[place] = out.get(place, 0) + math.prod(info.shape)
    return out
