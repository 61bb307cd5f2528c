"""The uptraining lab's numbers and sentences: the recorded study, and a run's results. Free of torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from attention.memory.footprint import cache_bytes
from attention.spec import uniform_spec
from attention.tiny.config import DATA, MODELS, TinyConfig
from attention.tiny.numpy_forward import TinyWeights, maps
from attention.tiny.slices import slices

KV_HEADS = (1, 2, 4, 8)
"""Numbers of K/V heads to which the tiny MHA model can be converted. With 8 it does not change."""
Pooling = Literal["mean", "first", "random"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""The poolings of ``pooling.POOLS``, the best one in the paper first."""
CALIBRATED = "calibrated"
POOL_METHODS: tuple[str, ...] = (CALIBRATED, *POOLINGS)
"""All methods of merging heads here. The first is calibrated on a text (``convert/calibration.py``)."""
ALPHAS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of the original steps at which the study measures."""
MAX_ALPHA = 0.1
STUDY_FILE = DATA / "study.json"
SAMPLE = b"def add(a, b):\n    return add(b, a)\n"
"""Text whose attention maps are compared. It was written for this page, so it is not in the training text."""
USABLE = 0.1
"""A conversion counts as usable without training if its loss is at most this share above MHA's."""


class Point(NamedTuple):
    """Loss over seeds in nats per byte: its mean, and its sample standard deviation (None for a single seed)."""

    alpha: float
    n_seeds: int
    mean: float
    spread: float | None


@dataclass(frozen=True)
class Study:
    """The recorded study.

    Attributes:
        about: what the losses depend on, as recorded.
        references: name of a shipped model -> its loss on the same windows, in nats per byte.
        series: (n_kv_heads, pool) -> its points, by rising alpha.
    """

    about: Mapping[str, Any]
    references: Mapping[str, float]
    series: Mapping[tuple[int, str], tuple[Point, ...]]

    @property
    def mha(self) -> float:
        return self.references["mha"]

    def scratch(self, n_kv_heads: int) -> float | None:
        """Loss of the model that was trained with `n_kv_heads` from the start; None if none is shipped."""
        name = {k: n for n, k in MODELS.items()}.get(n_kv_heads)
        return None if name in (None, "mha") else self.references.get(str(name))

    def points(self, n_kv_heads: int, pool: str) -> tuple[Point, ...]:
        """The measured points. With all K/V heads kept, every pooling is the same run."""
        return self.series.get((n_kv_heads, "mean" if n_kv_heads == max(KV_HEADS) else pool), ())

    def at(self, n_kv_heads: int, pool: str, alpha: float) -> Point | None:
        """The measured point at `alpha`, None if there is none."""
        return next((p for p in self.points(n_kv_heads, pool) if p.alpha == alpha), None)

    @cached_property
    def furthest(self) -> float:
        """Largest alpha up to which every series of the paper's poolings was measured."""
        ends = [max(p.alpha for p in points) for (_, pool), points in self.series.items() if pool in POOLINGS]
        return min(ends, default=0.0)

    @cached_property
    def n_seeds(self) -> tuple[int, int]:
        """Fewest and most seeds of a point up to `furthest`."""
        counts = [p.n_seeds for points in self.series.values() for p in points if p.alpha <= self.furthest]
        return min(counts), max(counts)


def read_study(path: Path = STUDY_FILE) -> Study | None:
    """The recorded study; None if there is none yet."""
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    series: dict[tuple[int, str], list[Point]] = {}
    for row in document["points"]:
        point = Point(row["alpha"], row["n_seeds"], row["mean"], row["spread"])
        series.setdefault((row["n_kv_heads"], row["pool"]), []).append(point)
    if not series or "mha" not in document["references"]:
        return None
    ordered = {key: tuple(sorted(points)) for key, points in series.items()}
    return Study(document["about"], document["references"], ordered)


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def heads(n: int) -> str:
    """The number of K/V heads in words, for example "2 K/V heads"."""
    return f"{n} K/V head{'s' if n > 1 else ''}"


def at_conversion(study: Study) -> str:
    """Sentences on the loss just after conversion: is GQA usable at alpha = 0 where MQA is not?"""
    shared = [k for k in sorted(KV_HEADS, reverse=True) if k < max(KV_HEADS) and study.at(k, "mean", 0.0)]
    losses = {k: study.at(k, "mean", 0.0) for k in shared}
    listed = _and([f"{point.mean:.2f} with {heads(k)}" for k, point in losses.items() if point])
    usable = [k for k, point in losses.items() if point and point.mean <= study.mha * (1 + USABLE)]
    if not usable:
        verdict = (
            "so none can be used as converted, neither GQA nor MQA, where the paper's T5 could with GQA"
            if 1 in losses
            else "so none can be used as converted"
        )
    elif 1 in usable:
        verdict = (
            f"so {_and([heads(k) for k in usable])} can be used as converted (at most {100 * USABLE:g} % above MHA)"
        )
    else:
        verdict = (
            f"so GQA with {_and([heads(k) for k in usable])} can be used as converted, MQA cannot, as in the paper"
        )
    text = f"Conversion by the mean lifts the loss from MHA's {study.mha:.2f} nats per byte to {listed}: {verdict}."
    calibrated = {k: point for k in shared if (point := study.at(k, CALIBRATED, 0.0))}
    if calibrated:
        listed = _and([f"{point.mean:.2f} with {heads(k)}" for k, point in calibrated.items()])
        enough = [heads(k) for k, point in calibrated.items() if point.mean <= study.mha * (1 + USABLE)]
        end = f"{_and(enough)} can be used as converted" if enough else "less, but still too much to use as converted"
        text += f" The calibrated merge lifts it to {listed}: {end}."
    return text


def pooling_order(study: Study) -> str:
    """Sentences on the order of the poolings: does mean < first < random hold for the loss? Empty if not measured."""
    alpha = study.furthest
    orders: dict[int, str] = {}
    strict = []
    for k in (k for k in KV_HEADS if k < max(KV_HEADS)):
        measured = {pool: study.at(k, pool, alpha) for pool in POOLINGS}
        points = {pool: point for pool, point in measured.items() if point}
        if len(points) < len(POOLINGS):
            continue
        ranked = sorted(points, key=lambda pool: points[pool].mean)
        text = f"{ranked[0]} {points[ranked[0]].mean:.2f}"
        apart = True
        for better, worse in pairwise(ranked):
            one, two = points[better], points[worse]
            near = two.mean - one.mean <= max(one.spread or 0.0, two.spread or 0.0)
            apart = apart and not near
            text += f" {'≈' if near else '<'} {worse} {two.mean:.2f}"
        orders[k] = text
        if apart and tuple(ranked) == POOLINGS:
            strict.append(k)
    if not orders:
        return ""
    verdict = (
        "the paper's order, mean before first before random, holds for each"
        if len(strict) == len(orders)
        else f"the paper's order, mean before first before random, holds at K = {_and([str(k) for k in strict])} alone"
        if strict
        else "the paper's order, mean before first before random, holds for none"
    )
    listed = "; ".join(f"{heads(k)}: {text}" for k, text in orders.items())
    return (
        f"Loss after alpha = {100 * alpha:g} % by pooling (≈ where the difference is within the spread over seeds): "
        f"{listed}. So {verdict}."
    )


def recovery(study: Study) -> str:
    """Sentences on the loss after uptraining, compared with the control and the models trained from scratch."""
    alpha = study.furthest
    parts = []
    for k in (k for k in KV_HEADS if k < max(KV_HEADS)):
        start, end = study.at(k, "mean", 0.0), study.at(k, "mean", alpha)
        if start and end and start.mean > study.mha:
            scratch = study.scratch(k)
            beside = f" (trained so from scratch: {scratch:.2f})" if scratch else ""
            back = (start.mean - end.mean) / (start.mean - study.mha)
            parts.append(f"with {heads(k)} {100 * back:.0f} % of the jump is won back, to {end.mean:.2f}{beside}")
    control = study.at(max(KV_HEADS), "mean", alpha)
    if not parts or alpha == 0:
        return ""
    text = f"After {100 * alpha:g} % of the original steps, {'; '.join(parts)}."
    if control:
        text += (
            f" MHA trained on just as long, at the same constant learning rate, stands at {control.mean:.2f}: "
            "part of what is left is that rate, which the original training lowered at its end."
        )
    return text


@dataclass
class Run:
    """The results of a run of the lab so far, see ``jobs/uptrain_lab.py``.

    Attributes:
        train, validation: (step, loss) in nats per byte.
        references: name of a model to compare with -> its loss.
        maps: "original", "converted", "uptrained" -> roots of attention weights, see :func:`unpack_maps`.
        layers: reports of a calibrated merge.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    references: dict[str, float] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)


def run_of(results: Sequence[Mapping[str, Any]]) -> Run:
    """The run of a job's results."""
    run = Run()
    for row in results:
        match row:
            case {"kind": "loss", "step": step, "validation_loss": value}:
                run.validation.append((step, value))
            case {"kind": "train", "steps": steps, "losses": losses}:
                run.train.extend(zip(steps, losses, strict=True))
            case {"kind": "reference", "name": name, "validation_loss": value}:
                run.references[name] = value
            case {"kind": "layer", "report": report}:
                run.layers.append(report)
            case {"kind": "maps", "when": when, "data": data}:
                run.maps[when] = unpack_maps(data)
    return run


def pack_maps(attention: np.ndarray) -> dict[str, Any]:
    """attention[…, length, length] as JSON. A weight w is the byte round(255 · √w), which keeps small weights apart."""
    packed = np.round(255 * np.sqrt(attention)).astype(np.uint8)
    return {"shape": list(attention.shape), "bytes": base64.b64encode(packed.tobytes()).decode("ascii")}


def unpack_maps(data: Mapping[str, Any]) -> np.ndarray:
    """The roots of the attention weights, float32 from 0 to 1, from what :func:`pack_maps` made."""
    values = np.frombuffer(base64.b64decode(data["bytes"]), dtype=np.uint8)
    return values.reshape(data["shape"]).astype(np.float32) / 255


def first_maps(source: TinyWeights, n_kv_heads: int, pool: str) -> dict[str, np.ndarray]:
    """The roots of the attention weights over SAMPLE: "original" of the MHA model, "converted" of its copy."""
    arrays = dict(source.arrays)
    for layer in range(source.config.n_layers):
        for matrix in ("k", "v"):
            merged = slices(source, layer, matrix, n_kv_heads, pool).merged
            arrays[f"model.layers.{layer}.self_attn.{matrix}_proj.weight"] = merged.reshape(-1, merged.shape[-1])
    converted = TinyWeights(replace(source.config, n_kv_heads=n_kv_heads), arrays)
    models = {"original": source, "converted": converted}
    return {when: np.sqrt(maps(weights, SAMPLE).attention) for when, weights in models.items()}


def cache_bytes_per_token(n_kv_heads: int) -> int:
    """Bytes that one token adds to the tiny model's cache, over all layers, in 16 bits."""
    config = TinyConfig(n_kv_heads=n_kv_heads)
    spec = uniform_spec(config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim)
    return cache_bytes(spec, 1).bytes_per_token
