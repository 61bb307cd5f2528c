"""The recipe of an uptraining run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from attention.errors import check_choice
from attention.spec import check_size


@dataclass(frozen=True, slots=True)
class Settings:
    """A run's recipe.

    Attributes:
        steps: optimizer steps: alpha times the original number.
        batch: blocks per step, over all processes and accumulated parts.
        seq_len: tokens per block.
        grad_accum: parts into which a process cuts its share of the batch.
        lr: peak learning rate.
        warmup: steps in which the learning rate rises linearly.
        schedule: the learning rate after the warmup, "constant" or "cosine".
        precision: "bf16" runs the matrix products in bf16 with float32 weights; "no" runs all in float32.
        eval_every, save_every: steps between two evaluations and between two saved states. With 0 the run evaluates
            only at its beginning and end, and saves a state only when it is stopped.
        eval_share: share of the text that is held out.
        checkpointing: recompute activations in the backward pass, which saves memory.

    Raises:
        ValueError: a value out of range, or an unknown choice.
    """

    steps: int
    batch: int = 8
    seq_len: int = 512
    grad_accum: int = 1
    lr: float = 1e-4
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    precision: Literal["bf16", "no"] = "no"
    eval_every: int = 0
    save_every: int = 0
    eval_share: float = 0.05
    seed: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "grad_accum"):
            check_size(name, getattr(self, name))
        check_size("seq_len", self.seq_len, minimum=2)
        for name in ("warmup", "eval_every", "save_every", "seed"):
            check_size(name, getattr(self, name), minimum=0)
        for name in ("lr", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        if not 0 < self.eval_share < 1:
            raise ValueError(f"eval_share must be between 0 and 1, got {self.eval_share!r}")
        for name, accepted in (("schedule", ("constant", "cosine")), ("precision", ("bf16", "no"))):
            check_choice(name, getattr(self, name), accepted)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0. "cosine" falls to a tenth of the peak."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.55 + 0.45 * math.cos(math.pi * done))
