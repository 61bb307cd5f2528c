"""Chooses which K/V heads are merged: the partition into groups that loses least.

Heads may have any order as long as their query heads move with them, so groups of neighbours are one choice of many.
For few heads all partitions are tried. More heads are grouped by the losses of pairs: first greedily, then by swaps
that lose less.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb, factorial
from typing import Literal, get_args

import torch

from attention.convert.merging import lost
from attention.convert.moments import Weighted, trace_of
from attention.errors import check_choice

Grouping = Literal["best", "neighbours"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
MAX_PARTITIONS = 6000
"""Most partitions that are all tried. 12 heads in three groups of four have 5775."""
MAX_SWEEPS = 20
_AT_ONCE = 64

Groups = tuple[tuple[int, ...], ...]


def check_grouping(grouping: str) -> Grouping:
    """`grouping`, if it is one of GROUPINGS.

    Raises:
        ValueError: it is none of them.
    """
    return check_choice("grouping", grouping, GROUPINGS)


def neighbours(n_kv_heads: int, new_n_kv_heads: int) -> Groups:
    """Groups of neighbouring heads."""
    size = n_kv_heads // new_n_kv_heads
    return tuple(tuple(range(g * size, (g + 1) * size)) for g in range(new_n_kv_heads))


def n_partitions(n_heads: int, size: int) -> int:
    """Number of partitions of `n_heads` heads into groups of `size`."""
    n_groups = n_heads // size
    return factorial(n_heads) // factorial(size) ** n_groups // factorial(n_groups)


def best_groups(weighted: Weighted, new_n_kv_heads: int) -> Groups:
    """The partition with the least loss, which is the lost share of the keys' energy plus that of the values' energy.

    Up to MAX_PARTITIONS all partitions are tried. Beyond that, a group's loss is approximated by the sum of its pairs'
    losses.
    """
    n_kv = len(weighted.values_root)
    size = n_kv // new_n_kv_heads
    if size == 1 or new_n_kv_heads == 1:
        return neighbours(n_kv, new_n_kv_heads)
    if n_partitions(n_kv, size) <= MAX_PARTITIONS and comb(n_kv, size) <= 500:
        cost = _costs(weighted, list(combinations(range(n_kv), size)))
        return min(partitions(tuple(range(n_kv)), size), key=lambda groups: sum(cost[g] for g in groups))
    return by_pairs(pair_losses(weighted).cpu(), size)


def partitions(heads: tuple[int, ...], size: int) -> Iterator[Groups]:
    """Every partition of the heads into groups of `size`, each once."""
    if not heads:
        yield ()
        return
    first, others = heads[0], heads[1:]
    for chosen in combinations(others, size - 1):
        left = tuple(h for h in others if h not in chosen)
        for rest in partitions(left, size):
            yield ((first, *chosen), *rest)


def by_pairs(cost: torch.Tensor, size: int) -> Groups:
    """Groups of `size` with a small sum of `cost` [n, n] over the pairs inside them. It is deterministic."""
    left = list(range(len(cost)))
    groups: list[list[int]] = []
    while left:
        # the head with the largest sum of costs chooses first
        first = max(left, key=lambda h: (float(cost[h, left].sum()), -h))
        group = [first]
        left.remove(first)
        while len(group) < size:
            best = min(left, key=lambda h: (float(cost[h, group].sum()), h))
            group.append(best)
            left.remove(best)
        groups.append(group)
    for _ in range(MAX_SWEEPS):
        if not _swap(groups, cost.tolist()):
            break
    return tuple(sorted(tuple(sorted(g)) for g in groups))


def pair_losses(weighted: Weighted) -> torch.Tensor:
    """[n_kv_heads, n_kv_heads]: about the loss of merging two heads, from the norms of their blocks only."""
    n_kv = len(weighted.values_root)
    total = torch.zeros(n_kv, n_kv, dtype=torch.float64, device=weighted.values.device)
    for moment in (weighted.flat, weighted.values):
        if (r := moment.shape[0] // n_kv) > 0:
            blocks = moment.unflatten(1, (n_kv, r)).unflatten(0, (n_kv, r))
            total += _apart(
                torch.einsum("gihj,gihj->gh", blocks, blocks),
                trace_of(
                    moment.unflatten(0, (n_kv, r)).unflatten(2, (n_kv, r)).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
                ),
                trace_of(moment),
            )
    squares = weighted.pairs.abs().square()
    for pair, moment in zip(squares, weighted.pairs, strict=True):
        total += _apart(pair, torch.diagonal(moment).real, trace_of(weighted.pairs).real.sum())
    return total


def _apart(squares: torch.Tensor, energy: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    own = torch.diagonal(squares).clamp_min(1e-300).sqrt()
    alike = squares / (own[:, None] * own[None, :])
    return torch.minimum(energy[:, None], energy[None, :]) * (1 - alike) / whole.clamp_min(1e-300)


def _swap(groups: list[list[int]], cost: list[list[float]]) -> bool:
    """Try all swaps between groups once. Returns whether any of them lowered the cost."""
    helped = False
    for one, other in combinations(range(len(groups)), 2):
        for i in range(len(groups[one])):
            for j in range(len(groups[other])):
                a, b = groups[one][i], groups[other][j]
                rest_a = [h for h in groups[one] if h != a]
                rest_b = [h for h in groups[other] if h != b]
                change = sum(cost[b][h] - cost[a][h] for h in rest_a) + sum(cost[a][h] - cost[b][h] for h in rest_b)
                if change < -1e-12:
                    groups[one][i], groups[other][j] = b, a
                    helped = True
    return helped


def _costs(weighted: Weighted, groups: list[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    costs: dict[tuple[int, ...], float] = {}
    for start in range(0, len(groups), _AT_ONCE):
        part = groups[start : start + _AT_ONCE]
        costs |= dict(zip(part, lost(weighted, part).sum(-1).tolist(), strict=True))
    return costs
