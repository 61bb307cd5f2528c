"""How much is kept of each head and of all together, compared with what is counted on the vectors themselves."""

from __future__ import annotations

import pytest
import torch

from attention.convert.energy import kept_by_head
from attention.convert.merging import lost
from attention.convert.moments import Heads, Moments, Rotation, weigh

N, D, COLUMNS, TOKENS = 6, 10, 23, 301
GROUPS = ((0, 3), (1, 5), (2, 4))


@pytest.fixture
def heads() -> Heads:
    torch.manual_seed(3)
    q, k, v = (torch.randn(N, D, COLUMNS, dtype=torch.float64) for _ in range(3))
    return Heads(q, k, v, torch.randn(17, N, D, dtype=torch.float64))


def moments(heads: Heads) -> tuple[Moments, torch.Tensor]:
    x = torch.randn(TOKENS, COLUMNS, dtype=torch.float64)
    k, v, q = (x @ rows.flatten(0, 1).T for rows in (heads.k, heads.v, heads.q))
    split = q.unflatten(1, (N, D)).transpose(0, 1)
    return Moments(k.T @ k, split.transpose(1, 2) @ split, v.T @ v), x


@pytest.mark.parametrize("n_rotated", [0, 6, 10])
def test_heads_add_up_to_the_layer(heads: Heads, n_rotated: int) -> None:
    weighted = weigh(heads, moments(heads)[0], Rotation(n_rotated))
    shares = kept_by_head(weighted, GROUPS)
    assert ((shares > 0) & (shares < 1)).all()
    diagonal = [weighted.values.diagonal().unflatten(0, (N, D)).sum(1)]
    keys = torch.diagonal(weighted.pairs, dim1=1, dim2=2).real.sum(0)
    if n_rotated < D:
        keys = keys + weighted.flat.diagonal().unflatten(0, (N, D - n_rotated)).sum(1)
    whole = torch.stack([keys, *diagonal], 1)
    total = (shares * whole).sum(0) / whole.sum(0)
    # float64 eigenvalues
    assert torch.allclose(total, 1 - lost(weighted, list(GROUPS)).sum(0), rtol=1e-9)


def test_a_head_s_values_keep_what_the_best_common_rows_give_it(heads: Heads) -> None:
    """Against the vectors: the weighted values of a group, and the best subspace for all of them, found by a singular
    value decomposition."""
    seen, x = moments(heads)
    weighted = weigh(heads, seen, Rotation(D))
    shares = kept_by_head(weighted, GROUPS)
    for group in GROUPS:
        parts = [x @ heads.v[h].T @ weighted.values_root[h] for h in group]
        left, size, right = torch.linalg.svd(torch.cat(parts, 1), full_matrices=False)
        best = (left[:, :D] * size[:D]) @ right[:D]
        for i, h in enumerate(group):
            kept = best[:, i * D : (i + 1) * D].square().sum() / parts[i].square().sum()
            # the weights' own share of the moments is 1e-4
            assert float(shares[h, 1]) == pytest.approx(float(kept), abs=5e-4)


def test_equal_heads_keep_all(heads: Heads) -> None:
    for one, other in GROUPS:
        heads.k[other], heads.v[other] = heads.k[one], heads.v[one]
    assert torch.allclose(kept_by_head(weigh(heads, moments(heads)[0], Rotation(6)), GROUPS), torch.ones(N, 2).double())
