"""Fits one merged layer to the output of the original's attention, by some steps of least squares.

Windows that the fit does not see decide whether the fitted layer is better. If it is not, the merged layer stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attention.convert.grouping import Groups, check_grouping
from attention.convert.merging import Merged
from attention.spec import check_size

EXACT = 1e-9
"""A merged layer with at most this error is not refined, because nothing is left to fit. The unit is the share of its
output's energy."""
TEST_SHARE = 8
"""One window in so many judges the refinement."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to merge.

    Attributes:
        grouping: "best" or "neighbours".
        refine_steps: steps of least squares per layer; 0 leaves the merge as it is.
        refine_lr: peak learning rate, as a share of each tensor's root mean square.
        refine_batch: windows per step.
        batch: windows that run at once in all other passes.
        seed: decides the order of the windows.

    Raises:
        ValueError: an unknown grouping, or a number out of range.
    """

    grouping: str = "best"
    refine_steps: int = 100
    refine_lr: float = 0.02
    refine_batch: int = 4
    batch: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_grouping(self.grouping)
        check_size("refine_steps", self.refine_steps, minimum=0)
        for name in ("refine_batch", "batch"):
            check_size(name, getattr(self, name))
        check_size("seed", self.seed, minimum=0)
        if not 0 < self.refine_lr < math.inf:
            raise ValueError(f"refine_lr must be a positive number, got {self.refine_lr!r}")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """How one layer was merged.

    Attributes:
        layer: the layer's number, from 0.
        groups: the old K/V heads of each new one.
        keys_kept, values_kept: shares of the energy that the merge keeps; None for keys behind a norm.
        error_merged: error of the attention's output after the merge, as a share of its energy, on windows that the fit
            did not see.
        error: the same error of the final layer.
        refined: whether the refined layer was kept.
        keys_kept_by_head, values_kept_by_head: the kept shares of each old K/V head.
    """

    layer: int
    groups: Groups
    keys_kept: float | None
    values_kept: float
    error_merged: float
    error: float
    refined: bool
    keys_kept_by_head: tuple[float, ...] | None = None
    values_kept_by_head: tuple[float, ...] | None = None


def fit(
    new: nn.Module, inputs: Tensor, targets: Tensor, keywords: dict[str, Any], merged: Merged, index: int,
    settings: Settings,
) -> LayerReport:  # fmt: skip
    """Refine the module in place, if that lowers its error on windows that the fit does not see.

    Args:
        new: the merged attention module.
        inputs, targets: [windows, length, hidden], the attention's inputs and the outputs to fit.
        keywords: the attention's other arguments.
        merged: how the layer was merged, for the report.
        index: the layer's number.
    """
    n_test = max(1, len(inputs) // TEST_SHARE) if len(inputs) > 1 else 0
    train, test = slice(n_test, None), slice(0, n_test or None)
    before = _error(new, inputs[test], targets[test], keywords, settings.batch)
    after, refined = before, False
    if settings.refine_steps and before > EXACT and n_test:
        kept = {name: t.clone() for name, t in new.state_dict().items()}
        _refine(new, inputs[train], targets[train], keywords, settings)
        after = _error(new, inputs[test], targets[test], keywords, settings.batch)
        refined = after < before
        if not refined:
            new.load_state_dict(kept)
            after = before
    return LayerReport(index, merged.groups, merged.keys_kept, merged.values_kept, before, after, refined)


def _error(module: nn.Module, inputs: Tensor, targets: Tensor, keywords: dict[str, Any], batch: int) -> float:
    lost, whole = 0.0, 0.0
    for x, y in zip(inputs.split(batch), targets.split(batch), strict=True):
        lost += float((module(x, **keywords)[0] - y).double().square().sum())
        whole += float(y.double().square().sum())
    return lost / max(whole, 1e-300)


@torch.enable_grad()
def _refine(module: nn.Module, inputs: Tensor, targets: Tensor, keywords: dict[str, Any], settings: Settings) -> None:
    parameters = [p.requires_grad_(True) for p in module.parameters()]
    groups = [
        {"params": [p], "peak": settings.refine_lr * max(float(p.detach().square().mean().sqrt()), 1e-6)}
        for p in parameters
    ]
    optimizer = torch.optim.Adam(groups, lr=1.0, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(settings.seed)
    scale = 1 / targets.square().mean().clamp_min(1e-12)
    order: list[int] = []
    for step in range(settings.refine_steps):
        done = step / settings.refine_steps
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * done))
        if len(order) < settings.refine_batch:
            order += torch.randperm(len(inputs), generator=generator).tolist()
        chosen, order = order[: settings.refine_batch], order[settings.refine_batch :]
        loss = (module(inputs[chosen], **keywords)[0] - targets[chosen]).square().mean() * scale
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
