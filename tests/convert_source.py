"""A small checkpoint for tests of the conversion to spoil, and what must hold after it was refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attention.convert.run import convert

HEADS, N_KV, HEAD_DIM, HIDDEN = 12, 6, 10, 36
CONFIG = {"model_type": "llama", "num_attention_heads": HEADS, "num_key_value_heads": N_KV, "num_hidden_layers": 2,
          "head_dim": HEAD_DIM, "hidden_size": HIDDEN, "vocab_size": 31}  # fmt: skip
INDEX = "model.safetensors.index.json"
FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def layer(index: int, **rows: int) -> dict[str, torch.Tensor]:
    sizes = {"q_proj": HEADS * HEAD_DIM, "k_proj": N_KV * HEAD_DIM, "v_proj": N_KV * HEAD_DIM} | rows
    generator = torch.Generator().manual_seed(index)
    return {
        f"model.layers.{index}.self_attn.{name}.weight": torch.randn(n, HIDDEN, generator=generator)
        for name, n in sizes.items()
    }


def write(folder: Path, shards: dict[str, dict[str, torch.Tensor]], config: dict[str, object]) -> Path:
    folder.mkdir()
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def source(tmp_path: Path) -> Iterator[Path]:
    """A checkpoint of two layers in two shards, for ``pytest.fixture``; nothing may be left beside the target."""
    folder = write(tmp_path / "source", {FILES[0]: layer(0), FILES[1]: layer(1)}, CONFIG)
    yield folder
    left = {p.name for p in tmp_path.iterdir()} - {"source", "elsewhere", "models--x--y"}
    assert left <= {"target"}, "something was left beside the target"


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def refused(source: Path, match: str, target: Path | None = None, n_kv_heads: int = 2, **options: Any) -> None:
    """The conversion raises, changes nothing and makes nothing."""
    target = target or source.parent / "target"
    before = snapshot(source.parent)
    with pytest.raises(ValueError, match=match):
        convert(source, target, n_kv_heads, **options)
    assert snapshot(source.parent) == before


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
