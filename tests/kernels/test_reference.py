"""The float64 specification, against attention written out element by element."""

from __future__ import annotations

import math

import pytest
import torch

from attention.kernels import reference


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Element by element, with Python's own numbers."""
    batch, n_heads, query, head_dim = q.shape
    group_size, context = n_heads // k.shape[1], k.shape[2]
    out = torch.zeros(batch, n_heads, query, v.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(n_heads):
            for r in range(query):
                seen = range(context - query + r + 1)
                scores = [
                    sum(float(q[b, h, r, d]) * float(k[b, h // group_size, s, d]) for d in range(head_dim))
                    for s in seen
                ]
                weights = [math.exp(score / math.sqrt(head_dim)) for score in scores]
                for d in range(v.shape[3]):
                    total = sum(w * float(v[b, h // group_size, s, d]) for w, s in zip(weights, seen, strict=True))
                    out[b, h, r, d] = total / sum(weights)
    return out


@pytest.mark.parametrize(("n_kv_heads", "query"), [(6, 1), (2, 1), (3, 5), (1, 7)])
def test_against_elements(n_kv_heads: int, query: int) -> None:
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(2, 6, query, 5, generator=generator)
    k = torch.randn(2, n_kv_heads, 7, 5, generator=generator)
    v = torch.randn(2, n_kv_heads, 7, 3, generator=generator)
    # float64 sums of a dozen numbers near 1
    torch.testing.assert_close(reference.attention(q, k, v), by_hand(q, k, v), rtol=0, atol=1e-13)


def test_refuses_what_makes_no_sense() -> None:
    x = torch.zeros(1, 4, 3, 2)
    with pytest.raises(ValueError, match="n_kv_heads must divide n_heads = 4, got 3"):
        reference.attention(x, torch.zeros(1, 3, 5, 2), torch.zeros(1, 3, 5, 2))
    with pytest.raises(ValueError, match="query must be at most the context of 2 positions, got 3"):
        reference.attention(x, torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
