"""Exports a checkpoint as one GGUF file, for llama.cpp and other programs that read such files.

Nothing is quantised. In the ``llama`` architecture the rows of queries and keys are reordered: llama.cpp rotates pairs
of neighbouring dimensions, transformers rotates dimension j with j + half. One tensor is in memory at a time. Source:
ggml-org/ggml, docs/gguf.md; ggml-org/llama.cpp, ``src/llama-model.cpp`` (what each architecture loads, and which rotary
embeddings pair neighbours).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention.convert import checkpoint as ckpt
from attention.convert.gguf_vocabulary import write_vocabulary
from attention.errors import shown
from attention.spec import check_size

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""``model_type`` → llama.cpp's architecture."""
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_STORED = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_QK = re.compile(r"self_attn\.([qk])_proj\.(weight|bias)$")
_LEFT_OUT = re.compile(r"rotary_emb\.inv_freq$")
"""Tensors that are not exported: engines compute this table."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The file that was written. `type`: of its matrices; `n_bytes`: its size; `vocabulary`: a description in words."""

    path: str
    architecture: str
    type: str
    n_tensors: int
    n_bytes: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocabulary: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """The checked sizes of a config. `inner`: width of the MLP; `n_tokens`: size of the vocabulary."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden: int
    inner: int
    n_tokens: int
    context: int
    eps: float


def export(folder: Path, target: Path, kind: str | None = None) -> Exported:
    """Write the checkpoint in `folder` into the new file `target`. The folder is only read.

    Args:
        kind: "f32", "f16" or "bf16" for the matrices; None keeps the type that most of them are stored in. Vectors
            (norms, biases) are always float32.

    Raises:
        ValueError: a family, rotary embedding, tokenizer or tensor that is not exported, a target that exists, values
            too large for f16, or ``gguf`` is not installed.
        OSError: the disk failed; nothing is left at `target`.
    """
    try:
        import gguf
    except ImportError:
        raise ValueError("gguf is not installed: pip install -r requirements-engines.txt") from None
    if target.exists() or target.is_symlink():
        raise ValueError(f"{target} exists: choose a new file")
    source = ckpt.read_checkpoint(folder)
    arch = _architecture(source.config)
    sizes = _sizes(source.config)
    if arch == "qwen2" and sizes.head_dim * sizes.n_heads != sizes.hidden:
        raise ValueError(
            f"head_dim must be hidden_size / num_attention_heads in llama.cpp's qwen2, got {sizes.head_dim}"
        )
    stored = [_STORED.get(info.dtype, info.dtype) for info in source.tensors.values() if len(info.shape) > 1]
    kind = kind or max(set(stored), key=stored.count)
    if kind not in TYPES:
        raise ValueError(f"the type of a GGUF file's weights must be one of {', '.join(TYPES)}, got {shown(kind)}")
    with _aside(target) as aside, closing(gguf.GGUFWriter(aside, arch)) as writer:
        _write_header(writer, source.config, sizes, kind, folder.resolve().name)
        vocabulary = write_vocabulary(writer, folder, sizes.n_tokens)
        named = _named(source, arch, sizes.n_layers, gguf)
        table = _factors(source.config, sizes, arch)
        for name, info in named.items():
            _announce(writer, name, info.shape, kind, gguf)
        if table is not None:
            _announce(writer, "rope_freqs.weight", tuple(table.shape), kind, gguf)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for info in named.values():
            tensor = _read(info)
            if arch == "llama" and (found := _QK.search(info.name)):
                tensor = neighbours(tensor, sizes.n_heads if found[1] == "q" else sizes.n_kv_heads)
            writer.write_tensor_data(_as_array(tensor, kind, info.name))
        if table is not None:
            writer.write_tensor_data(_as_array(table, kind, "rope_freqs"))
    return Exported(
        str(target), arch, kind, len(named) + (table is not None), target.stat().st_size, sizes.n_layers,
        sizes.n_heads, sizes.n_kv_heads, vocabulary,
    )  # fmt: skip


def neighbours(rows: Tensor, n_heads: int) -> Tensor:
    """Rows [n_heads * head_dim, …] reordered: each dimension j of a head is followed by dimension j + head_dim / 2."""
    return rows.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).reshape(rows.shape)


def _architecture(config: dict[str, Any]) -> str:
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        raise ValueError(
            f"{shown(family)} is not exported to GGUF, only {', '.join(ARCHITECTURES)}: llama.cpp's own "
            "convert_hf_to_gguf.py takes many more families"
        )
    windowed = family == "mistral" or config.get("use_sliding_window")
    if windowed and config.get("sliding_window") is not None:
        raise ValueError(f"sliding_window {shown(config['sliding_window'])} is not exported: llama.cpp would ignore it")
    if (activation := config.get("hidden_act", "silu")) != "silu":
        raise ValueError(f"hidden_act must be silu, got {shown(activation)}")
    return ARCHITECTURES[family]


def _sizes(config: dict[str, Any]) -> Sizes:
    def size(name: str, default: Any = None) -> int:
        return check_size(name, config[name] if config.get(name) is not None else default)

    n_heads, hidden = size("num_attention_heads"), size("hidden_size")
    eps = config.get("rms_norm_eps", 1e-6)
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
        raise ValueError(f"rms_norm_eps must be a small positive number, got {shown(eps)}")
    return Sizes(
        size("num_hidden_layers"), n_heads, size("num_key_value_heads", n_heads), size("head_dim", hidden // n_heads),
        hidden, size("intermediate_size"), size("vocab_size"), size("max_position_embeddings", 2048), float(eps),
    )  # fmt: skip


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding's parameters, always with "rope_type" and "rope_theta".

    Raises:
        ValueError: a rotary embedding that is not exported.
    """
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(stated, dict):
        raise ValueError(f"rope_parameters must be an object, got {shown(stated)}")
    rope = {"rope_theta": config.get("rope_theta", 10_000.0), **stated}
    rope["rope_type"] = stated.get("rope_type", stated.get("type", "default"))
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise ValueError(f"rope_type {shown(rope['rope_type'])} is not exported, only default, linear and llama3")
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share not in (None, 1, 1.0):
        raise ValueError(f"partial_rotary_factor must be 1, got {shown(share)}")
    for name in ("rope_theta", *(("factor",) if rope["rope_type"] == "linear" else ())):
        value = rope.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {shown(value)}")
    return rope


def _write_header(writer: Any, config: dict[str, Any], sizes: Sizes, kind: str, name: str) -> None:
    import gguf

    rope = _rope(config)
    writer.add_name(name)
    writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[kind])
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_block_count(sizes.n_layers)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.n_heads)
    writer.add_head_count_kv(sizes.n_kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.eps)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_vocab_size(sizes.n_tokens)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _factors(config: dict[str, Any], sizes: Sizes, arch: str) -> Tensor | None:
    """The divisors of the pairs' frequencies in llama.cpp, float32[head_dim / 2], from transformers' own rule.

    None for a rotary embedding that is not llama3's.
    """
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    if arch != "llama":
        raise ValueError(f"rope_type llama3 is exported for the architecture llama alone, not for {arch}")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    try:
        scaled = ROPE_INIT_FUNCTIONS["llama3"](
            LlamaConfig(
                hidden_size=sizes.hidden, num_attention_heads=sizes.n_heads, head_dim=sizes.head_dim,
                max_position_embeddings=sizes.context, rope_parameters=rope,
            ), torch.device("cpu"),
        )[0]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"rope_parameters of type llama3 cannot be read: {error}") from None
    plain = float(rope["rope_theta"]) ** -(torch.arange(0, sizes.head_dim, 2).double() / sizes.head_dim)
    return (plain / scaled.double()).float()


def _named(source: ckpt.Checkpoint, arch: str, n_layers: int, gguf: Any) -> dict[str, ckpt.TensorInfo]:
    """llama.cpp's name -> tensor of the checkpoint.

    Raises:
        ValueError: a tensor that the architecture does not have, or one that is missing.
    """
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[arch], n_layers)
    found: dict[str, ckpt.TensorInfo] = {}
    for name, info in source.tensors.items():
        if _LEFT_OUT.search(name) or (name == "lm_head.weight" and source.config.get("tie_word_embeddings")):
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise ValueError(f"{name} is no tensor that llama.cpp's architecture {arch} has")
        found[new] = info
    needed = ["token_embd.weight", *(f"blk.{i}.attn_k.weight" for i in range(n_layers))]
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"the checkpoint lacks what becomes {missing[0]}")
    return found


def _announce(writer: Any, name: str, shape: tuple[int, ...], kind: str, gguf: Any) -> None:
    import numpy as np

    kind = kind if len(shape) > 1 else "f32"
    itemsize = TYPES[kind].itemsize
    raw = gguf.GGMLQuantizationType[kind.upper()]
    writer.add_tensor_info(name, shape, np.dtype(f"u{itemsize}"), math.prod(shape) * itemsize, raw_dtype=raw)


def _read(info: ckpt.TensorInfo) -> Tensor:
    descriptor = os.open(info.path, os.O_RDONLY)
    try:
        return ckpt.read_elements(descriptor, info, 0, info.n_elements).view(info.shape)
    finally:
        os.close(descriptor)


def _as_array(tensor: Tensor, kind: str, name: str) -> Any:
    """The tensor in the file's type, as an array of whole numbers with the same bits.

    Raises:
        ValueError: a value is NaN, infinite or too large for the type.
    """
    dtype = TYPES[kind] if tensor.ndim > 1 else torch.float32
    new = tensor.to(dtype).contiguous()
    if not bool(new.isfinite().all()):
        raise ValueError(f"{name} holds NaN, infinity or values too large for {kind}")
    return new.view(torch.int32 if dtype.itemsize == 4 else torch.int16).numpy()


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A hidden file beside `target`. When it is whole and on the disk it is renamed to `target`; else it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.exporting")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
