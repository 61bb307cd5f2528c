"""Headers of GGUF files, written as ggml-org/ggml's docs/gguf.md describes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from attention.configs.gguf_header import MAGIC


class Typed:
    """A value with the number of its GGUF type, for where Python's type does not determine it."""

    def __init__(self, kind: int, letter: str, value: float) -> None:
        self.kind, self.letter, self.value = kind, letter, value


def text(value: str, order: str = "<") -> bytes:
    data = value.encode()
    return struct.pack(order + "Q", len(data)) + data


def _value(value: Any, order: str) -> tuple[int, bytes]:
    if isinstance(value, Typed):
        return value.kind, struct.pack(order + value.letter, value.value)
    if isinstance(value, bool):
        return 7, struct.pack("B", value)
    if isinstance(value, int):
        return (4, struct.pack(order + "I", value)) if value < 2**32 else (10, struct.pack(order + "Q", value))
    if isinstance(value, float):
        return 6, struct.pack(order + "f", value)
    if isinstance(value, str):
        return 8, text(value, order)
    entries = [_value(entry, order) for entry in value]
    kind = entries[0][0] if entries else 4
    return 9, struct.pack(order + "IQ", kind, len(entries)) + b"".join(data for _, data in entries)


def header(
    keys: Mapping[str, Any] | Sequence[tuple[str, Any]],
    tensors: Mapping[str, Sequence[int]] | None = None,
    *,
    version: int = 3,
    order: str = "<",
    n_keys: int | None = None,
) -> bytes:
    """A header; `n_keys` is the number of keys that it states, which may be wrong."""
    pairs = list(keys.items()) if isinstance(keys, Mapping) else list(keys)
    tensors = tensors or {}
    out = MAGIC + struct.pack(order + "IQQ", version, len(tensors), len(pairs) if n_keys is None else n_keys)
    for key, value in pairs:
        kind, data = _value(value, order)
        out += text(key, order) + struct.pack(order + "I", kind) + data
    for name, shape in tensors.items():
        out += text(name, order) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    return out


def of(arch: str, fields: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The keys of an architecture: `fields` without the prefix, as llama.cpp names them, `more` for other keys."""
    return {"general.architecture": arch, **{f"{arch}.{name}": value for name, value in fields.items()}, **more}
