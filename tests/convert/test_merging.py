"""The merge's mathematics, in float64 and without a model: scores and outputs before and after."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from attention.convert.grouping import best_groups, by_pairs, check_grouping, n_partitions, partitions
from attention.convert.merging import lost, merge_heads
from attention.convert.moments import Heads, Moments, Rotation, weigh

H, G, D, HIDDEN, T = 10, 5, 14, 23, 11
ROTATIONS = [Rotation(14), Rotation(6), Rotation(0), Rotation(10, "interleaved")]


def random_heads(n_kv: int = G, n_heads: int = H, seed: int = 0) -> Heads:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(n, D, HIDDEN, generator=g, dtype=torch.float64) for n in (n_heads, n_kv, n_kv))
    return Heads(q, k, v, torch.randn(HIDDEN, n_heads, D, generator=g, dtype=torch.float64))


def text(n: int = 301) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    mix = torch.randn(HIDDEN, HIDDEN, generator=g, dtype=torch.float64)
    return torch.randn(n, HIDDEN, generator=g, dtype=torch.float64) @ mix


def moments(heads: Heads, x: torch.Tensor) -> Moments:
    q, k, v = (torch.einsum("tc,hdc->thd", x, w) for w in (heads.q, heads.k, heads.v))
    k, v = k.flatten(1), v.flatten(1)
    return Moments(k.T @ k, torch.einsum("thd,the->hde", q, q), v.T @ v)


def rotate(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Rotate each pair of dimensions by its own angle: [..., position, dimension]."""
    real, imaginary = rotation.pairs
    angle = torch.arange(T)[:, None] * torch.linspace(0.1, 2.0, rotation.n_rotated // 2, dtype=torch.float64)
    turned = torch.complex(x[..., real], x[..., imaginary]) * torch.polar(torch.ones_like(angle), angle)
    x = x.clone()
    x[..., real], x[..., imaginary] = turned.real, turned.imag
    return x


def what_it_computes(heads: Heads, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores [head, query, key], each head's output for the value of each position [head, position, hidden])."""
    x = text()[:T]
    q, k, v = (torch.einsum("tc,hdc->htd", x, w) for w in (heads.q, heads.k, heads.v))
    share = len(q) // len(k)
    k, v = k.repeat_interleave(share, 0), v.repeat_interleave(share, 0)
    return rotate(q, rotation) @ rotate(k, rotation).mT, torch.einsum("htd,ohd->hto", v, heads.o)


def alike(heads: Heads, rotation: Rotation, one: int, other: int) -> None:
    """Replace head `other` by head `one` under maps that a model can absorb."""
    g = torch.Generator().manual_seed(other)
    real, imaginary = rotation.pairs
    rest = slice(rotation.n_rotated, D)
    factor = torch.randn(rotation.n_rotated // 2, 1, dtype=torch.complex128, generator=g)
    pairs = torch.complex(heads.k[one][real], heads.k[one][imaginary]) * factor
    heads.k[other][real], heads.k[other][imaginary] = pairs.real, pairs.imag
    size = D - rotation.n_rotated
    heads.k[other][rest] = torch.randn(size, size, generator=g, dtype=torch.float64) @ heads.k[one][rest]
    heads.v[other] = torch.randn(D, D, generator=g, dtype=torch.float64) @ heads.v[one]


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("n_tokens", [301, 3])
def test_maps_that_a_model_absorbs_lose_nothing(rotation: Rotation, n_tokens: int) -> None:
    heads = random_heads(6, 12)
    groups = ((0, 3), (1, 5), (2, 4))
    for one, other in groups:
        alike(heads, rotation, one, other)
    seen = moments(heads, text(n_tokens))  # three tokens span no head: the weights rank the rest
    assert best_groups(weigh(heads, seen, rotation), 3) == groups
    merged = merge_heads(heads, seen, rotation, groups)
    assert merged.keys_kept == pytest.approx(1, abs=1e-9)
    assert merged.values_kept == pytest.approx(1, abs=1e-9)
    order = list(merged.query_order)
    assert order == [0, 1, 6, 7, 2, 3, 10, 11, 4, 5, 8, 9]
    for before, after in zip(what_it_computes(heads, rotation), what_it_computes(merged.heads, rotation), strict=True):
        # inverses of random maps, and moments that three tokens leave almost singular
        torch.testing.assert_close(after, before[order], rtol=0, atol=1e-7 * float(before.abs().max()))


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_less_is_lost_than_by_the_mean(rotation: Rotation) -> None:
    heads = random_heads()
    seen = moments(heads, text())
    merged = merge_heads(heads, seen, rotation, (tuple(range(G)),))
    mean = Heads(heads.q, heads.k.mean(0, keepdim=True), heads.v.mean(0, keepdim=True), heads.o)
    before = what_it_computes(heads, rotation)
    errors = [
        [float((a - b).square().sum()) for a, b in zip(what_it_computes(h, rotation), before, strict=True)]
        for h in (merged.heads, mean)
    ]
    assert errors[0][0] < errors[1][0]
    assert errors[0][1] < errors[1][1]
    assert 0 < merged.values_kept < 1


def test_one_head_to_a_group_changes_nothing() -> None:
    heads = random_heads()
    merged = merge_heads(heads, moments(heads, text()), Rotation(D), tuple((h,) for h in range(G)))
    for name in "qkvo":
        assert torch.equal(getattr(merged.heads, name), getattr(heads, name))


def test_lost_energy_is_what_the_best_approximation_leaves() -> None:
    """Compared with a singular value decomposition of the weighted values themselves."""
    heads, x = random_heads(4, 4), text()
    weighted = weigh(heads, moments(heads, x), Rotation(D))
    for group in combinations(range(4), 2):
        rows = []
        for h in group:
            root = torch.linalg.cholesky(heads.o[:, h].T @ heads.o[:, h])
            rows.append((x @ heads.v[h].T) @ root)
        values = torch.linalg.svdvals(torch.cat(rows, 1)).square()
        whole = sum(
            float((x @ heads.v[h].T @ torch.linalg.cholesky(heads.o[:, h].T @ heads.o[:, h])).square().sum())
            for h in range(4)
        )
        # the weights' own share of the moments is one in ten thousand
        assert float(lost(weighted, [group])[0, 1]) == pytest.approx(float(values[D:].sum()) / whole, abs=5e-4)


def test_what_cannot_be_merged_is_refused() -> None:
    heads = random_heads()
    seen = moments(heads, text())
    with pytest.raises(ValueError, match="groups must hold each of the 5 K/V heads once"):
        merge_heads(heads, seen, Rotation(D), ((0, 1), (2, 3)))
    heads.k[2, 3, 5] = torch.nan
    with pytest.raises(ValueError, match="projections hold NaN or infinity"):
        merge_heads(heads, seen, Rotation(D), (tuple(range(G)),))
    with pytest.raises(ValueError, match="n_rotated must be even, got 7"):
        Rotation(7)
    with pytest.raises(ValueError, match="grouping must be one of best, neighbours, got 'worst'"):
        check_grouping("worst")


def test_partitions() -> None:
    found = list(partitions(tuple(range(6)), 2))
    assert len(set(found)) == len(found) == n_partitions(6, 2) == 15
    assert all(sorted(h for g in p for h in g) == list(range(6)) for p in found)
    assert n_partitions(8, 2) == 105


def test_many_heads_are_grouped_by_pairs() -> None:
    """Planted groups of 35 heads are found, whatever their order."""
    places = torch.randperm(35, generator=torch.Generator().manual_seed(2))
    cost = torch.ones(35, 35, dtype=torch.float64)
    planted = sorted(tuple(sorted(group.tolist())) for group in places.view(7, 5))
    for group in planted:
        for a, b in combinations(group, 2):
            cost[a, b] = cost[b, a] = 0.1
    assert by_pairs(cost, 5) == tuple(planted)
