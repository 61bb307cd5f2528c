"""Plans the conversion of a checkpoint to fewer K/V heads: how every tensor of the result is made.

Every tensor of the result is a list of pieces. A piece is either copied from the original, or pooled from the slices of
a group's heads (Ainslie et al. 2023, arXiv:2305.13245, section 2.1). The plan has every size, so a file can be written
in one pass, beginning with its header.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch

from attention.convert import checkpoint as ckpt
from attention.convert.checkpoint import Checkpoint, Shard, TensorInfo
from attention.convert.layouts import (
    Layout,
    get_field,
    layout_of,
    text_config,
    with_field,
)
from attention.convert.pooling import (
    Pool,
    Role,
    check_kv_heads,
    check_pool,
)
from attention.errors import check_choice
from attention.formats import TORCH_NAMES
from attention.spec import check_size

CAST_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Span:
    """Elements `start … start + count - 1` of a tensor of the original."""

    tensor: TensorInfo
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive elements of a result: a single span is copied; several spans are a group of heads to merge."""

    heads: tuple[Span, ...]
    role: Role = "weight"


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor of the result. `size` is in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Plan:
    """A conversion: everything about the result but its bytes.

    Attributes:
        config: the config of the result.
        shards: each file of the original, and the tensors of the result's file.
        std: standard deviation of random weights.
        n_kv_heads, new_n_kv_heads: K/V heads before and after.
    """

    source: Checkpoint
    config: dict[str, Any]
    shards: tuple[tuple[Shard, tuple[Planned, ...]], ...]
    pool: Pool | Literal["calibrated"]
    seed: int
    std: float
    family: str
    n_layers: int
    n_heads: int
    head_dim: int
    n_kv_heads: int
    new_n_kv_heads: int
    attention: Mapping[int, Mapping[str, TensorInfo]]
    """Layer -> name inside its attention module -> tensor of the original."""

    @property
    def n_bytes(self) -> int:
        return sum(tensor.size for _, tensors in self.shards for tensor in tensors)

    @property
    def n_parameters(self) -> int:
        return sum(prod(tensor.shape) for _, tensors in self.shards for tensor in tensors)


def plan_conversion(
    source: Checkpoint, new_n_kv_heads: int, pool: str = "mean", seed: int = 0, dtype: str | None = None
) -> Plan:
    """Decide every tensor of the result.

    Args:
        source: the original.
        new_n_kv_heads: a divisor of the original's number of K/V heads.
        pool: one of ``pooling.POOLS``.
        seed: for the pooling "random".
        dtype: fp32, bf16 or fp16 for every floating-point tensor; None keeps the dtype of each.

    Raises:
        ValueError: an unknown or impossible family, tensors that do not fit the config, or a bad argument.
    """
    if dtype is not None:
        check_choice("dtype", dtype, CAST_DTYPES)
    family, layout = layout_of(source.config)
    config = text_config(source.config)
    modules = _attention_tensors(source, layout, family)
    n_heads = _n_heads(config, layout, family)
    head_dim, n_kv_heads = _geometry(modules, layout, config, n_heads)
    check_kv_heads(n_heads, n_kv_heads, new_n_kv_heads)
    planned: dict[str, Planned] = {}
    dropped: set[str] = set()
    for tensors in modules.values():
        done = _plan_attention(tensors, layout, n_heads, n_kv_heads, new_n_kv_heads, head_dim)
        planned |= {p.name: p for p in done[0]}
        dropped |= done[1]
    std = config.get("initializer_range")
    return Plan(
        source=source,
        config=_new_config(source.config, layout, new_n_kv_heads, dtype),
        shards=tuple(
            (
                shard,
                tuple(
                    _cast(planned.get(t.name) or _copied(t), source, dtype)
                    for t in shard.tensors
                    if t.name not in dropped
                ),
            )
            for shard in source.shards
        ),
        pool=check_pool(pool),
        seed=seed,
        std=float(std) if isinstance(std, int | float) and std > 0 else 0.02,
        family=family,
        n_layers=_n_layers(config, modules),
        n_heads=n_heads,
        head_dim=head_dim,
        n_kv_heads=n_kv_heads,
        new_n_kv_heads=new_n_kv_heads,
        attention=modules,
    )


def _attention_tensors(source: Checkpoint, layout: Layout, family: str) -> dict[int, dict[str, TensorInfo]]:
    """Layer -> name inside the attention module -> tensor."""
    pattern = layout.pattern()
    modules: dict[int, dict[str, TensorInfo]] = defaultdict(dict)
    for name, tensor in source.tensors.items():
        if match := pattern.fullmatch(name):
            layer, inner = int(match[1]), match[2]
            if inner in modules[layer]:
                raise ValueError(f"layer {layer} has two tensors {inner}: {name} and {modules[layer][inner].name}")
            modules[layer][inner] = tensor
    n_layers = _n_layers(text_config(source.config), modules)
    needed = [f"{p}.weight" for p in ((layout.fused,) if layout.fused else layout.separate)]
    for layer in range(n_layers):
        for inner in needed:
            if inner not in modules.get(layer, {}):
                raise ValueError(
                    f"layer {layer} has no tensor …{layout.layers}.{layer}.{layout.attention}.{inner}: the checkpoint "
                    f"is not complete, or not laid out like a {family} model (a quantised one has other names)"
                )
    if not modules:
        raise ValueError(f"the checkpoint has no {layout.attention} tensors of a {family} model")
    return dict(sorted(modules.items()))


def _n_layers(config: Mapping[str, Any], modules: Mapping[int, Any]) -> int:
    """The number of layers in the config, or of attention modules where it gives none.

    A checkpoint may have more layers (to predict several tokens ahead), which are converted too.
    """
    stated = config.get("num_hidden_layers", config.get("n_layers"))
    return check_size("num_hidden_layers", len(modules) if stated is None else stated)


def _n_heads(config: Mapping[str, Any], layout: Layout, family: str) -> int:
    n_heads = get_field(config, layout.heads_field)
    if n_heads is None:
        # a config without the field means the default of its class
        from transformers import AutoConfig

        defaults = AutoConfig.for_model(str(config.get("model_type", family)))
        n_heads = get_field(defaults.to_dict(), layout.heads_field)
    return check_size(".".join(layout.heads_field), n_heads)


def _geometry(
    modules: Mapping[int, Mapping[str, TensorInfo]], layout: Layout, config: Mapping[str, Any], n_heads: int
) -> tuple[int, int]:
    """(head_dim, n_kv_heads) from the tensors' shapes. They must be the same in every layer and fit the config."""
    found: set[tuple[int, int]] = set()
    for layer, tensors in modules.items():
        if layout.fused:
            width = _shape(tensors, f"{layout.out}.weight", layer)[1]
            kv_width = (_shape(tensors, f"{layout.fused}.weight", layer)[0] - width) / 2
        else:
            width = _shape(tensors, f"{layout.query}.weight", layer)[0]
            k, v = (_shape(tensors, f"{p}.weight", layer)[0] for p in layout.separate)
            if k != v:
                raise ValueError(f"layer {layer}'s K and V projections have {k} and {v} rows: they must have as many")
            kv_width = k
        head_dim = width / n_heads
        n_kv_heads = kv_width / head_dim if head_dim else 0
        if head_dim % 1 or n_kv_heads % 1 or n_kv_heads < 1 or n_heads % n_kv_heads:
            raise ValueError(
                f"layer {layer}'s projections ({width} and {kv_width:g} rows) do not split into {n_heads} query heads "
                "and K/V heads that they share"
            )
        found.add((int(head_dim), int(n_kv_heads)))
    if len(found) > 1:
        raise ValueError(f"layers differ in (head_dim, n_kv_heads): {sorted(found)}; this converter needs one for all")
    head_dim, n_kv_heads = found.pop()
    for path, value in ((("head_dim",), head_dim), (layout.kv_heads_field, n_kv_heads)):
        stated = get_field(config, path)
        if stated is not None and stated != value:
            raise ValueError(f"config.json says {'.'.join(path)} = {stated!r}, but the tensors have {value}")
    return head_dim, n_kv_heads


def _shape(tensors: Mapping[str, TensorInfo], inner: str, layer: int) -> tuple[int, int]:
    if inner not in tensors or len(tensors[inner].shape) != 2:
        shape = tensors[inner].shape if inner in tensors else "nothing"
        raise ValueError(f"layer {layer}'s {inner} must be a matrix, got {shape}")
    rows, columns = tensors[inner].shape
    return rows, columns


def _plan_attention(
    tensors: Mapping[str, TensorInfo], layout: Layout, n_heads: int, n_kv_heads: int, new_n_kv_heads: int, head_dim: int
) -> tuple[list[Planned], set[str]]:
    """The changed tensors of one attention module, and the names of tensors that the result does not have."""
    planned: list[Planned] = []
    dropped: set[str] = set()
    share = n_kv_heads // new_n_kv_heads
    changed = (layout.fused,) if layout.fused else layout.separate
    for inner, tensor in tensors.items():
        module, _, last = inner.rpartition(".")
        if module in changed:
            if last not in ("weight", "bias"):
                raise ValueError(f"{tensor.name} belongs to a quantised projection: convert the original checkpoint")
            row = tensor.n_elements // tensor.shape[0]
            role: Role = "bias" if last == "bias" else "weight"
            kv_rows = n_kv_heads * head_dim
            if layout.fused:
                q_rows = n_heads * head_dim
                parts = [Piece((Span(tensor, 0, q_rows * row),))]
                for start in (q_rows, q_rows + kv_rows):
                    parts += _grouped(tensor, start * row, head_dim * row, new_n_kv_heads, share, role)
                rows = (n_heads + 2 * new_n_kv_heads) * head_dim
            else:
                parts = _grouped(tensor, 0, head_dim * row, new_n_kv_heads, share, role)
                rows = new_n_kv_heads * head_dim
            expected = rows + (n_kv_heads - new_n_kv_heads) * head_dim * (2 if layout.fused else 1)
            if tensor.shape[0] != expected:
                raise ValueError(f"{tensor.name} has {tensor.shape[0]} rows, {expected} were expected")
            planned.append(_planned(tensor, (rows, *tensor.shape[1:]), parts))
        elif module == layout.head_norm:
            if tensor.n_elements != n_kv_heads * head_dim:
                raise ValueError(
                    f"{tensor.name} has {tensor.n_elements} elements, {n_kv_heads * head_dim} were expected"
                )
            parts = _grouped(tensor, 0, head_dim, new_n_kv_heads, share, "bias" if last == "bias" else "norm")
            planned.append(_planned(tensor, (tensor.shape[0] // share, *tensor.shape[1:]), parts))
        elif layout.head_norms and module.startswith(f"{layout.head_norms}."):
            # there is one tensor per head, perhaps in different shards: tensor j becomes the norm of new head j
            head = int(module.rpartition(".")[2])
            names = [f"{layout.head_norms}.{h}.{last}" for h in range(head * share, (head + 1) * share)]
            if head >= new_n_kv_heads:
                dropped.add(tensor.name)
                continue
            if missing := [name for name in names if name not in tensors]:
                raise ValueError(f"{tensor.name} has no neighbour {missing[0]}")
            heads = tuple(Span(tensors[name], 0, tensors[name].n_elements) for name in names)
            planned.append(_planned(tensor, tensor.shape, [Piece(heads, "bias" if last == "bias" else "norm")]))
    return planned, dropped


def _grouped(tensor: TensorInfo, start: int, size: int, new_n_kv_heads: int, share: int, role: Role) -> list[Piece]:
    """One piece per group of `share` heads. Heads have `size` elements each and begin at element `start`."""
    return [
        Piece(tuple(Span(tensor, start + (group * share + i) * size, size) for i in range(share)), role)
        for group in range(new_n_kv_heads)
    ]


def _planned(tensor: TensorInfo, shape: tuple[int, ...], pieces: list[Piece]) -> Planned:
    size = sum(p.heads[0].count for p in pieces) * tensor.element_bytes
    return Planned(tensor.name, tensor.dtype, shape, size, tuple(pieces))


def _copied(tensor: TensorInfo) -> Planned:
    return Planned(
        tensor.name, tensor.dtype, tensor.shape, tensor.size, (Piece((Span(tensor, 0, tensor.n_elements),)),)
    )


def _cast(planned: Planned, source: Checkpoint, dtype: str | None) -> Planned:
    """The tensor in the dtype of ``--dtype``. Whole numbers keep their type."""
    if dtype is None or planned.dtype.startswith(("I", "U", "BOOL")):
        return planned
    before = source.tensors[planned.name].torch_dtype  # refuses fp8 and other quantised elements
    wanted = CAST_DTYPES[dtype]
    size = planned.size // before.itemsize * wanted.itemsize
    return replace(planned, dtype=ckpt.DTYPE_NAMES[wanted], size=size)


def _new_config(config: dict[str, Any], layout: Layout, n_kv_heads: int, dtype: str | None) -> dict[str, Any]:
    nested = isinstance(config.get("text_config"), Mapping)
    path = ("text_config", *layout.kv_heads_field) if nested else layout.kv_heads_field
    new = with_field(config, path, n_kv_heads)
    if dtype is None:
        return new
    if "quantization_config" in config:
        raise ValueError("a quantised checkpoint cannot be cast: leave dtype out, or convert the original")
    for parent in ((), ("text_config",)) if nested else ((),):
        for key in ("dtype", "torch_dtype"):
            if get_field(new, (*parent, key)) is not None:
                new = with_field(new, (*parent, key), TORCH_NAMES[dtype])
    # all releases of transformers read torch_dtype; older ones do not read dtype
    return new if {"dtype", "torch_dtype"} & new.keys() else with_field(new, ("torch_dtype",), TORCH_NAMES[dtype])
