"""A model's tensors by their names in safetensors, from safetensors files or from a GGUF file.

Only these two formats are read, because neither can contain code. Every shape is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from attention.configs import gguf_header
from attention.errors import shown
from attention.llm.architecture import Architecture, of_config, of_gguf

MAX_JSON_BYTES = 64 * 2**20

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


class Source(Protocol):
    """The source of a model's tensors."""

    architecture: Architecture

    def __contains__(self, name: str) -> bool: ...

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor by its name in safetensors. Raises ValueError if it is missing or damaged."""
        ...

    def blocks(self, name: str) -> tuple[np.ndarray, int] | None:
        """A tensor's bytes [rows, bytes of a row] and ggml's number of their type; None for safetensors."""
        ...


def source(path: Path) -> Source:
    """The source at `path`, which is a GGUF file or a folder with config.json and safetensors.

    Raises:
        ValueError: it is neither, it is damaged, or the model is not Llama-like.
    """
    if path.is_dir():
        return SafetensorsFolder(path)
    if path.suffix != gguf_header.SUFFIX:
        raise ValueError(
            f"a model is a folder with config.json and safetensors, or a .gguf file; got {shown(str(path))}"
        )
    return GgufFile(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of at most MAX_JSON_BYTES bytes.

    Raises:
        ValueError: the file is too long, cannot be read, or holds no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path.name} is longer than {MAX_JSON_BYTES:,} bytes")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{path.name} is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} must hold an object, got {type(found).__name__}")
    return found


class SafetensorsFolder:
    """A folder that ``save_pretrained`` wrote: config.json and safetensors."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.architecture = of_config(read_json(folder / "config.json"))
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ValueError(f"{folder.name} holds no .safetensors file; pickled weights are never read")
        self._where: dict[str, Any] = {}
        for path in files:
            try:
                opened = safe_open(str(path), framework="pt")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path.name} is damaged: {shown(str(error))}") from None
            self._where |= dict.fromkeys(opened.keys(), opened)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        if name not in self:
            raise ValueError(f"the weights {shown(name)} are missing")
        found: Tensor = self._where[name].get_tensor(name)
        return found.to(dtype)

    def blocks(self, name: str) -> None:
        return None


class GgufFile:
    """A GGUF file. Blocks are unpacked when a tensor is needed."""

    def __init__(self, path: Path) -> None:
        self.keys, table = gguf_header.read_whole(path)
        self.architecture = of_gguf(self.keys)
        self._table = {info.name: info for info in table}
        self._data = np.memmap(path, mode="r", dtype=np.uint8)
        # llama.cpp rotates neighbouring dimensions, the published weights halves: "llama" files have llama.cpp's order
        self._permuted = self.keys["general.architecture"] == "llama"
        for unread in ("rope_freqs.weight", *(["blk.0.attn_q.bias"] if self._permuted else [])):
            if unread in self._table:
                raise ValueError(f"{unread} of this GGUF file is not heeded here: take the model's safetensors")

    @staticmethod
    def _own_name(name: str) -> str:
        stem, _, kind = name.rpartition(".")
        if stem.startswith("model.layers."):
            _, _, index, part = stem.split(".", 3)
            return f"blk.{index}.{_GGUF_NAMES.get(part, part)}.{kind}"
        return f"{_GGUF_NAMES.get(stem, stem)}.{kind}"

    def __contains__(self, name: str) -> bool:
        return self._own_name(name) in self._table

    def blocks(self, name: str) -> tuple[np.ndarray, int]:
        """A tensor's bytes in the file, uint8 [rows, bytes of a row], and ggml's number of their type.

        Rows of queries and keys are in the published order.

        Raises:
            ValueError: the tensor is missing, its type is unknown, or the file ends before it.
        """
        import gguf

        own = self._own_name(name)
        if own not in self._table:
            raise ValueError(f"the tensor {shown(own)} is missing in this GGUF file")
        info = self._table[own]
        try:
            block, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(info.type)]
        except (ValueError, KeyError):
            raise ValueError(f"the type {info.type} of the tensor {shown(own)} is unknown") from None
        width, rows = info.shape[0], int(np.prod(info.shape[1:], dtype=np.int64))
        if width % block:
            raise ValueError(f"rows of {shown(own)} must be a multiple of {block} long, got {width:,}")
        row = width // block * n_bytes
        end = info.offset + rows * row
        if end > len(self._data):
            raise ValueError(
                f"this GGUF file is cut off: {shown(own)} would end at byte {end:,}, "
                f"and the file has {len(self._data):,}"
            )
        out = self._data[info.offset : end].reshape(rows, row)
        return (out[self._order(name, rows)] if self._permuted and name.endswith("weight") else out), info.type

    def _order(self, name: str, rows: int) -> Any:
        """The published order of the rows of queries and keys, which pairs halves of a head, not neighbours."""
        if not name.endswith(("self_attn.q_proj.weight", "self_attn.k_proj.weight")):
            return slice(None)
        head_dim = self.architecture.head_dim
        return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        import gguf

        raw, kind = self.blocks(name)
        try:
            values = gguf.dequantize(np.asarray(raw), gguf.GGMLQuantizationType(kind))
        except NotImplementedError:
            named = gguf.GGMLQuantizationType(kind).name
            raise ValueError(f"weights of type {named} cannot be unpacked here ({shown(name)})") from None
        found = torch.from_numpy(np.array(values))
        return (found[0] if name.endswith((".bias", "norm.weight")) else found).to(dtype)


class Shaped(Protocol):
    """A tensor, or blocks of one."""

    @property
    def shape(self) -> torch.Size: ...


Of = TypeVar("Of", bound=Shaped)


def check_shape(name: str, found: Of, expected: Iterable[int]) -> Of:
    """`found`, if it has the expected shape. Raises ValueError if not."""
    if tuple(found.shape) != tuple(expected):
        raise ValueError(f"{name} must have the shape {[*expected]}, got {[*found.shape]}")
    return found
