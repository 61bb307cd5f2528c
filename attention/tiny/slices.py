"""Slices of a tiny model's projections, one per head, before and after their heads are merged. Free of torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attention.tiny.numpy_forward import TinyWeights


class Slices(NamedTuple):
    """One projection of one layer, cut into heads.

    Attributes:
        heads: float32[n_heads, head_dim, hidden], the trained heads.
        merged: float32[n_kv_heads, head_dim, hidden], each merged from a group of heads.
        groups: the heads of each group; empty if groups are neighbours.
        kept: the kept share of each head's energy; empty if not known.
    """

    heads: np.ndarray
    merged: np.ndarray
    groups: tuple[tuple[int, ...], ...] = ()
    kept: tuple[float, ...] = ()


def slices(weights: TinyWeights, layer: int, matrix: str, n_kv_heads: int, pool: str) -> Slices:
    """The slices of `matrix` ("k" or "v") before and after pooling. Random heads are one example draw.

    Raises:
        ValueError: no such layer or matrix, or the heads do not divide.
    """
    config = weights.config
    if matrix not in ("k", "v") or not 0 <= layer < config.n_layers:
        raise ValueError(f"matrix must be k or v and layer below {config.n_layers}, got {matrix!r}, {layer!r}")
    if n_kv_heads < 1 or config.n_kv_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide {config.n_kv_heads}, got {n_kv_heads!r}")
    flat = weights[f"model.layers.{layer}.self_attn.{matrix}_proj.weight"]
    heads = flat.reshape(config.n_kv_heads, config.head_dim, config.hidden_size)
    groups = heads.reshape(n_kv_heads, -1, *heads.shape[1:])
    if pool == "first" or groups.shape[1] == 1:
        merged = groups[:, 0]
    elif pool == "mean":
        merged = groups.astype(np.float64).mean(axis=1).astype(np.float32)
    else:
        std = config.hidden_size**-0.5 * 0.5
        merged = np.random.default_rng(0).normal(0, std, groups[:, 0].shape).astype(np.float32)
    return Slices(heads, merged)


def likeness(found: Slices) -> tuple[float, float] | None:
    """(mean cosine of two heads of a group, length of a group's mean as a share of its heads' length).

    None if every group is a single head.
    """
    n_kv_heads = len(found.merged)
    groups = found.heads.reshape(n_kv_heads, len(found.heads) // n_kv_heads, -1).astype(np.float64)
    size = groups.shape[1]
    if size == 1:
        return None
    lengths = np.linalg.norm(groups, axis=-1)
    unit = groups / lengths[..., None]
    cosines = unit @ unit.swapaxes(-1, -2)
    between = (cosines.sum(axis=(-1, -2)) - size) / (size * (size - 1))
    kept = np.linalg.norm(groups.mean(axis=1), axis=-1) / lengths.mean(axis=1)
    return float(between.mean()), float(kept.mean())


def likeness_finding(found: Slices) -> str:
    """A sentence on what averaging does to these slices."""
    values = likeness(found)
    if values is None:
        return "With a K/V head for every query head there is nothing to merge: the slices stay as they are."
    cosine, kept = values
    size = len(found.heads) // len(found.merged)
    near = "about 0" if abs(cosine) < 0.01 else f"{cosine:.2f}"
    return (
        f"The slices of a group have a mean cosine of {near}, and their mean keeps {100 * kept:.0f} % of "
        f"their length; unrelated slices would keep 1/√{size}, {100 * size**-0.5:.0f} %."
    )
