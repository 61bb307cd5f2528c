"""The recorded calibrated conversions of the tiny MHA model, layer by layer and in sentences. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from attention.tiny.config import DATA
from attention.tiny.numpy_forward import TinyWeights, maps
from attention.tiny.results import CALIBRATED, KV_HEADS, SAMPLE, Study, heads
from attention.tiny.slices import Slices

FILE = DATA / f"{CALIBRATED}.json"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a conversion, see ``convert/refine.LayerReport``. Shares are 0 to 1.

    Attributes:
        groups: the old K/V heads of each new one.
        keys, values: the share of each old head's energy that the merge keeps.
        keys_kept, values_kept: the same shares for the whole layer.
        error_merged, error: errors of the attention's output before and after the fit, as shares of its energy.
    """

    groups: tuple[tuple[int, ...], ...]
    keys: tuple[float, ...]
    values: tuple[float, ...]
    keys_kept: float
    values_kept: float
    error_merged: float
    error: float

    @property
    def order(self) -> tuple[int, ...]:
        """The old heads in the order of the groups."""
        return tuple(head for group in self.groups for head in group)


def layer_of(report: Mapping[str, Any]) -> Layer:
    """The layer of a LayerReport as JSON."""
    return Layer(
        tuple(tuple(group) for group in report["groups"]),
        tuple(report["keys_kept_by_head"]),
        tuple(report["values_kept_by_head"]),
        report["keys_kept"],
        report["values_kept"],
        report["error_merged"],
        report["error"],
    )


def layers(n_kv_heads: int, path: Path = FILE) -> tuple[Layer, ...]:
    """The layers of the recorded conversion to `n_kv_heads`; empty if there is none."""
    if not path.exists():
        return ()
    conversion = json.loads(path.read_text())["conversions"].get(str(n_kv_heads))
    return tuple(layer_of(report) for report in conversion["layers"]) if conversion else ()


@lru_cache(maxsize=1)
def _arrays(path: Path, changed_ns: int) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in load_file(path).items()}


def weights(source: TinyWeights, n_kv_heads: int, path: Path = FILE) -> TinyWeights:
    """The converted model: `source`, the shipped MHA model, with the recorded attention.

    Raises:
        ValueError: no such conversion is recorded.
    """
    file, prefix = path.with_suffix(".safetensors"), f"{n_kv_heads}."
    arrays = _arrays(file, file.stat().st_mtime_ns) if file.exists() else {}
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    if not own:
        raise ValueError(f"no calibrated conversion to n_kv_heads = {n_kv_heads} is recorded in {file}")
    return TinyWeights(replace(source.config, n_kv_heads=n_kv_heads), source.arrays | own)


def first_maps(source: TinyWeights, n_kv_heads: int) -> dict[str, np.ndarray]:
    """As ``results.first_maps``, for the recorded conversion. The converted model's heads are in their new order."""
    models = {"original": source, "converted": weights(source, n_kv_heads)}
    return {when: np.sqrt(maps(model, SAMPLE).attention) for when, model in models.items()}


def slices(source: TinyWeights, layer: int, matrix: str, n_kv_heads: int) -> Slices:
    """The slices of `matrix` ("k" or "v") before and after, the groups, and the kept share of each head.

    Raises:
        ValueError: no such conversion is recorded.
    """
    config = source.config
    name = f"model.layers.{layer}.self_attn.{matrix}_proj.weight"
    before, after = (
        model[name].reshape(-1, config.head_dim, config.hidden_size) for model in (source, weights(source, n_kv_heads))
    )
    found = layers(n_kv_heads)[layer]
    return Slices(before, after, found.groups, found.keys if matrix == "k" else found.values)


def finding(layer: Layer, matrix: str) -> str:
    """Sentences on what the merge keeps and loses of a layer's keys or values. `matrix` is "k" or "v"."""
    name = {"k": "keys", "v": "values"}[matrix]
    kept, whole = (layer.keys, layer.keys_kept) if matrix == "k" else (layer.values, layer.values_kept)
    worst = min(range(len(kept)), key=kept.__getitem__)
    groups = _and([f"{'+'.join(map(str, group))}" for group in layer.groups])
    return (
        f"Heads that lose least together are merged: {groups}. Of the energy of this layer's {name} "
        f"{100 * whole:.1f} % is kept and {100 * (1 - whole):.1f} % lost; head {worst} loses most "
        f"({100 * (1 - kept[worst]):.1f} %). The attention's output is off by {100 * layer.error_merged:.0f} % of its "
        f"energy after the merge, {100 * layer.error:.0f} % after the fit."
    )


def from_there(study: Study) -> str:
    """Sentences on the loss after uptraining from a calibrated start, compared with the longest uptraining from a mean.

    They give the loss at the largest alpha that all seeds reached, and, if fewer seeds went further, at the last alpha
    of those.
    """
    measured = {k: points for k in KV_HEADS if (points := study.series.get((k, CALIBRATED), ()))}
    every = [{p.alpha: p.n_seeds for p in points if p.alpha > 0} for points in measured.values()]
    common = sorted(set.intersection(*map(set, every))) if every else []
    if not common or not all(study.at(k, "mean", study.furthest) for k in measured):
        return "No uptraining from it is recorded."
    most = max(n for seeds in every for n in seeds.values())
    whole = [alpha for alpha in common if all(seeds[alpha] == most for seeds in every)]
    alpha = whole[-1] if whole else common[-1]
    parts, better, rising = [], [], []
    for k in sorted(measured, reverse=True):
        start, end, mean = measured[k][0], study.at(k, CALIBRATED, alpha), study.at(k, "mean", study.furthest)
        assert end is not None
        assert mean is not None
        parts.append(f"{end.mean:.2f} with {heads(k)} (mean pooling after {100 * study.furthest:g} %: {mean.mean:.2f})")
        better.append(end.mean <= mean.mean)
        if end.mean > start.mean:
            rising.append(heads(k))
    text = f"After alpha = {100 * alpha:g} % the loss is {_and(parts)}"
    if not all(better):
        text += "."
    elif alpha < study.furthest:
        text += ": less training, and a lower loss in each."
    else:
        text += ": as much training, and a lower loss in each."
    if rising:
        text += (
            f" With {_and(rising)} that is more than just after conversion: the constant peak learning rate, chosen "
            "for models that have much to win back, shakes one that has little, as it does MHA."
        )
    if (last := common[-1]) > alpha:
        ends = {k: point for k in sorted(measured, reverse=True) if (point := study.at(k, CALIBRATED, last))}
        fewest = min(point.n_seeds for point in ends.values())
        listed = _and([f"{point.mean:.2f} with {heads(k)}" for k, point in ends.items()])
        runs = "A single run goes" if fewest == 1 else f"Runs of {fewest} seeds go"
        return f"{text} {runs} on to {100 * last:g} %: {listed}."
    return text if last >= study.furthest else f"{text} Calibrated starts are measured no further."


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
