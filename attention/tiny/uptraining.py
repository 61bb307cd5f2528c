"""Converts the shipped tiny MHA model to fewer K/V heads and uptrains it: the GQA paper's recipe at a small size.

Ainslie et al. 2023, arXiv:2305.13245, section 2.1: pool the key and value heads of each group into one, then continue
the pre-training for a share alpha of the original steps. The original run is recorded in ``data/tiny/mha.json``.
Uptraining has the same recipe (batch, optimisers, clipping, random windows of the same text), but a constant learning
rate: see :data:`RATE_SHARE`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from attention.convert.pooling import (
    Pool,
    Role,
    check_kv_heads,
    pool_projections,
)
from attention.errors import check_choice
from attention.spec import check_size
from attention.tiny import train
from attention.tiny.config import DATA
from attention.tiny.corpus import Corpus, load_corpus
from attention.tiny.model import TinyLM, loss
from attention.tiny.numpy_forward import TinyWeights, maps
from attention.tiny.results import KV_HEADS, MAX_ALPHA, POOL_METHODS, SAMPLE

if TYPE_CHECKING:
    from attention.convert.refine import LayerReport

PoolMethod = Pool | Literal["calibrated"]
SOURCE = "mha"
RATE_SHARE = 1.0
"""Learning rate of uptraining as a share of the original peak. It is constant from the first step to the last, so the
first 2 % of a run of 5 % are the same as a run of 2 %. Of 0.05, 0.3 and 1, each tried for 75 steps, 1 recovers fastest.
It also makes a model worse that has nothing to recover. Therefore MHA, trained for as long, is the control."""
EVAL_WINDOWS = 48
"""Held-out windows of each validation loss. They are the same for all models that are compared."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the lab: conversion and uptraining of the MHA model.

    Attributes:
        n_kv_heads: K/V heads of the converted model.
        pool: how each group's heads are merged, one of ``results.POOL_METHODS``.
        alpha: share of the original steps to train for, 0 to 0.1.
        seed: decides the order of the windows, and random heads.

    Raises:
        ValueError: an unknown pool, a number out of range, or heads that do not divide.
    """

    n_kv_heads: int
    pool: PoolMethod = "mean"
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_kv_heads(max(KV_HEADS), max(KV_HEADS), self.n_kv_heads)
        check_pool(self.pool)
        check_size("seed", self.seed, minimum=0)
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not 0 <= self.alpha <= MAX_ALPHA:
            raise ValueError(f"alpha must be a share from 0 to {MAX_ALPHA}, got {self.alpha!r}")

    @property
    def steps(self) -> int:
        """Steps of uptraining."""
        return steps_of(self.alpha)


@cache
def original() -> train.Recipe:
    """The recipe of the shipped MHA model, as recorded beside its weights."""
    return train.Recipe(**json.loads((DATA / f"{SOURCE}.json").read_text())["recipe"])


def steps_of(alpha: float) -> int:
    """Steps of a share `alpha` of the original training."""
    return round(alpha * original().steps)


def source_model() -> TinyLM:
    """The shipped MHA model in float32."""
    return train.load(DATA / f"{SOURCE}.safetensors")


def shared_roles(model: TinyLM) -> dict[str, Role]:
    """Name of each tensor with K/V heads -> its role, for ``pooling.pool_projections``."""
    return {name: "weight" for name in model.state_dict() if name.endswith(("k_proj.weight", "v_proj.weight"))}


def check_pool(pool: str) -> str:
    """`pool`, if it is one of ``results.POOL_METHODS``.

    Raises:
        ValueError: it is none of them.
    """
    return check_choice("pool", pool, POOL_METHODS)


def convert(
    model: TinyLM,
    n_kv_heads: int,
    pool: PoolMethod,
    seed: int = 0,
    report: Callable[[LayerReport], None] = lambda layer: None,
) -> TinyLM:
    """A copy of `model` with its K/V heads merged into `n_kv_heads`.

    A random head starts as in ``model.initialised``. The calibrated merge reads the training text, takes about twenty
    seconds of a core, and calls `report` after each layer.

    Raises:
        ValueError: n_kv_heads does not divide the model's number of K/V heads, or an unknown pool.
    """
    config = model.config
    check_pool(pool)
    check_kv_heads(config.n_heads, config.n_kv_heads, n_kv_heads)
    if pool == "calibrated":
        if n_kv_heads == config.n_kv_heads:
            return deepcopy(model)
        from attention.tiny import calibrated  # it imports transformers, so only when it is needed

        return calibrated.convert(model, n_kv_heads, text()[0], report)
    std = config.hidden_size**-0.5 * 0.5
    state = pool_projections(model.state_dict(), shared_roles(model), config.n_kv_heads, n_kv_heads, pool, seed, std)
    converted = TinyLM(replace(config, n_kv_heads=n_kv_heads))
    converted.load_state_dict(state)
    return converted


def evaluation_rows(corpus: Corpus, n_windows: int = EVAL_WINDOWS, length: int = 256) -> Tensor:
    """`n_windows` held-out windows at even distances, int64[n_windows, length + 1]."""
    rows = train.held_out_rows(corpus, length)
    picked = np.linspace(0, len(rows) - 1, min(n_windows, len(rows))).round().astype(int)
    return rows[picked]


class Uptraining:
    """The uptraining of a converted model, one step at a time."""

    def __init__(self, model: TinyLM, stream: np.ndarray, seed: int, recipe: train.Recipe | None = None) -> None:
        """`stream` is the training text from ``Corpus.train_stream``; `seed` decides the order of its windows."""
        self.model = model
        self.step = 0
        self._recipe = recipe or original()
        self._stream = stream
        self._generator = np.random.default_rng(seed)
        self._steppers = train.optimisers(model, self._recipe)
        for stepper in self._steppers:
            stepper.param_groups[0]["lr"] *= RATE_SHARE

    def advance(self) -> float:
        """Do one step and return its training loss in nats per byte, which belongs to the weights before the step."""
        self.model.train()
        for stepper in self._steppers:
            stepper.zero_grad(set_to_none=True)
        rows = train.sample_rows(self._stream, self._generator, self._recipe.batch, self.model.config.max_context)
        value = loss(self.model, rows)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.clip)
        for stepper in self._steppers:
            stepper.step()
        self.step += 1
        return float(value.detach())


def measured_steps(n_steps: int) -> list[int]:
    """Steps at which a run of the lab measures its validation loss: close together at first, where the loss falls
    fastest, and the last step."""
    return sorted({s for s in (2, 5, 10, 18, 28, 40, 55, 75, 100, 130, 160, 200) if s < n_steps * 0.95} | {n_steps})


@torch.no_grad()
def attention_of(model: TinyLM, sample: bytes = SAMPLE) -> np.ndarray:
    """float32[n_layers, n_heads, length, length]: the model's attention over `sample`."""
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return maps(TinyWeights(model.config, arrays), sample).attention


def stored(model: TinyLM) -> bytes:
    """The model as the bytes of a safetensors file in float16, like the shipped ones; its sizes are in the metadata."""
    state = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    return save(state, metadata={"format": "pt", "config": json.dumps(model.config.to_llama())})


@cache
def text() -> tuple[np.ndarray, Tensor]:
    """(training stream, evaluation windows) of this machine's standard library, read once per process."""
    corpus = load_corpus()
    return corpus.train_stream(), evaluation_rows(corpus)


def from_scratch(n_kv_heads: int, folder: Path = DATA) -> TinyLM | None:
    """The shipped model that was trained with `n_kv_heads` from the start; None if there is none."""
    from attention.tiny.config import MODELS

    name = {k: n for n, k in MODELS.items()}.get(n_kv_heads)
    return train.load(folder / f"{name}.safetensors") if name and name != SOURCE else None
