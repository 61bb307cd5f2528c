"""Reads and writes safetensors checkpoints as streams of bytes.

The safetensors library checks every file that is read (``safe_open``), but it loads and saves whole tensors and whole
files. A conversion leaves most bytes unchanged. Here the kernel copies them from file to file, and only changed tensors
pass through memory, in pieces. The format is eight bytes of header length, a JSON header, then the tensors' bytes
without gaps: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from attention.configs.reader import load_config
from attention.files import ordinary, resolved

MAX_JSON_BYTES = 64 * 2**20
"""Largest config.json or index. The largest published index is a few MiB."""
CHUNK_BYTES = 16 * 2**20

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
)
"""The element types that can be pooled and cast. All others are only copied."""
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor and the place of its bytes.

    Attributes:
        name, dtype, shape: as in the header; `dtype` is safetensors' own name.
        path: the file.
        start, size: where the tensor's bytes begin in the file, and how many they are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    size: int

    @property
    def n_elements(self) -> int:
        return prod(self.shape)

    @property
    def element_bytes(self) -> int:
        return self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        """Raises ValueError if the tensor does not hold plain floating-point numbers."""
        if self.dtype not in DTYPES:
            raise ValueError(
                f"{self.name} is stored as {self.dtype}: a quantised checkpoint cannot be pooled; "
                "convert the original in bf16, fp16 or fp32 and quantise the result"
            )
        return DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file: its tensors in the order of their bytes, and its metadata."""

    name: str
    path: Path
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: everything in its files but the tensors' bytes.

    Attributes:
        folder: the checkpoint's folder.
        config: the content of config.json.
        shards: the safetensors files.
        index: the content of the index file, or None for a single safetensors file.
        tensors: every tensor by name.
    """

    folder: Path
    config: dict[str, Any]
    shards: tuple[Shard, ...]
    index: dict[str, Any] | None
    tensors: dict[str, TensorInfo] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        return sum(t.size for t in self.tensors.values())

    @property
    def n_parameters(self) -> int:
        return sum(t.n_elements for t in self.tensors.values())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
        ValueError: missing, too large, not JSON, nested too deeply, or not an object.
    """
    try:
        if ordinary(path).stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path} is larger than {MAX_JSON_BYTES:,} bytes")
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def inside(folder: Path, name: Any) -> Path:
    """The path of file `name` of `folder`.

    A link is followed only to a place inside the folder, or to the blobs of the same repository: that is the layout of
    ``models--x--y/snapshots/REVISION`` in the Hugging Face cache.

    Raises:
        ValueError: the name or its link leads to another place.
    """
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"{folder / INDEX_NAME} names {name!r}: a shard must be a file name inside the folder")
    path = folder / name
    target = resolved(path)
    real = resolved(folder)
    allowed = [real]
    if real.parent.name == "snapshots":
        allowed.append(real.parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise ValueError(f"{path} is a link to {target}, outside the checkpoint's folder: copy the file in its place")
    return path


def read_shard(path: Path) -> Shard:
    """The header of one safetensors file. The safetensors library checks the file first.

    Raises:
        ValueError: missing, truncated or corrupt.
    """
    ordinary(path)
    try:
        with safe_open(path, framework="pt") as judged:
            metadata = dict(judged.metadata() or {})
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: the checkpoint is not complete") from error
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise ValueError(f"{path} is truncated or corrupt: {error}") from error
    header.pop("__metadata__", None)
    tensors = [
        TensorInfo(
            name, info["dtype"], tuple(info["shape"]), path, 8 + length + (begin := info["data_offsets"][0]),
            info["data_offsets"][1] - begin,
        )
        for name, info in header.items()
    ]  # fmt: skip
    return Shard(path.name, path, tuple(sorted(tensors, key=lambda t: (t.start, t.size))), metadata)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read everything of a checkpoint but the tensors' bytes.

    Raises:
        ValueError: no such folder, no safetensors, a missing or corrupt file, or an index that does not fit the files.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    index_path = folder / INDEX_NAME
    index: dict[str, Any] | None = None
    if index_path.is_file():
        index = read_json(index_path)
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError(f"{index_path} has no weight_map")
        # every name is checked before any file is opened
        paths = {name: inside(folder, name) for name in weight_map.values()}
    elif (folder / SINGLE_NAME).exists():
        weight_map, paths = None, {SINGLE_NAME: inside(folder, SINGLE_NAME)}
    else:
        raise ValueError(_why_no_weights(folder))
    config = load_config(inside(folder, "config.json"))
    shards = tuple(read_shard(path) for path in paths.values())
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in tensors:
                raise ValueError(f"{tensor.name} is in both {tensors[tensor.name].path.name} and {shard.name}")
            tensors[tensor.name] = tensor
    for name, file in (weight_map or {}).items():
        if name not in tensors or tensors[name].path.name != file:
            raise ValueError(f"{index_path} says {name} is in {file}, but it is not there")
    return Checkpoint(folder, config, shards, index, tensors)


def _why_no_weights(folder: Path) -> str:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        return (
            f"{folder} holds its weights as pickle ({pickles[0]}), which can run code when it is read. Save it as "
            "safetensors first, if you trust where it comes from: "
            "AutoModelForCausalLM.from_pretrained(SRC).save_pretrained(NEW)"
        )
    return f"{folder} holds neither {SINGLE_NAME} nor {INDEX_NAME}"


def header_bytes(entries: list[tuple[str, str, tuple[int, ...], int]], metadata: dict[str, str]) -> bytes:
    """The beginning of a safetensors file: length and header. The tensors follow in the order of `entries`.

    Args:
        entries: (name, dtype, shape, bytes) of every tensor.
        metadata: strings that are stored in the file.
    """
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # readers map the file into memory: data that begins at a multiple of eight can be used in place
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def copy_bytes(source: int, target: int, start: int, size: int) -> None:
    """Append `size` bytes of file descriptor `source`, from `start` on, to `target`. Where possible the kernel copies.

    Raises:
        ValueError: the source ends early, because it was cut during the reading.
        OSError: the disk is full, or cannot be read.
    """
    while size:
        done = _copy_some(source, target, start, size)
        if done == 0:
            raise ValueError(f"a shard became {size:,} bytes shorter while it was read")
        start, size = start + done, size - done


def _copy_some(source: int, target: int, start: int, size: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, size, offset_src=start)
        except OSError as error:
            # between file systems, or on an old kernel, the bytes go through memory
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    return write_all(target, os.pread(source, min(size, CHUNK_BYTES), start))


def write_all(target: int, data: bytes | memoryview) -> int:
    """Append all of `data` and return its length. It writes again where a plain write stops early."""
    view = memoryview(data).cast("B")
    total = len(view)
    while view:
        view = view[os.write(target, view) :]
    return total


def read_elements(source: int, info: TensorInfo, start: int, count: int) -> torch.Tensor:
    """`count` elements of a tensor from element `start` on, as a flat tensor.

    Raises:
        ValueError: the file is shorter than its header says.
    """
    size = info.element_bytes
    buffer = bytearray(count * size)
    view = memoryview(buffer)
    offset = info.start + start * size
    while view:
        done = os.preadv(source, [view], offset)
        if done == 0:
            raise ValueError(f"{info.path} became shorter while it was read")
        view, offset = view[done:], offset + done
    return torch.frombuffer(buffer, dtype=info.torch_dtype) if count else torch.empty(0, dtype=info.torch_dtype)


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes in the order in which safetensors stores them, without a copy if the tensor is contiguous."""
    return tensor.contiguous().view(torch.uint8).numpy().data.cast("B")


def spans(count: int, element_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, count) of pieces that together are `count` elements, each of at most CHUNK_BYTES bytes."""
    step = max(1, CHUNK_BYTES // element_bytes)
    for start in range(0, count, step):
        yield start, min(step, count - start)


def header_size(path: Path) -> int:
    """Bytes of a safetensors file before its first tensor."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    return 8 + int(length)
