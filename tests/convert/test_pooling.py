"""The pooling functions against plain loops, with distinct primes for sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attention.convert.pooling import (
    Pool,
    check_kv_heads,
    generator_for,
    merge,
    pool_heads,
    pool_projections,
)

N_KV, ROWS, HIDDEN = 15, 7, 11


def weight(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(N_KV * ROWS, HIDDEN, generator=torch.Generator().manual_seed(3)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_mean_of_each_group(k: int, dtype: torch.dtype) -> None:
    w = weight(dtype)
    pooled = pool_heads(w, N_KV, k)
    assert pooled.shape == (k * ROWS, HIDDEN)
    assert pooled.dtype == dtype
    share = N_KV // k
    for j in range(k):
        for row in range(ROWS):
            rows = [w[(j * share + i) * ROWS + row].double() for i in range(share)]
            expected = sum(rows[1:], rows[0]) / share
            assert torch.equal(pooled[j * ROWS + row], expected.to(dtype))


def test_mean_across_blocks() -> None:
    """A head longer than a block, and not a multiple of it."""
    heads = torch.randn(3, 2**15 + 101, 2, generator=torch.Generator().manual_seed(5))
    expected = ((heads[0].double() + heads[1] + heads[2]) / 3).float()
    assert torch.equal(merge(heads, "mean"), expected)
    assert torch.equal(merge(list(heads), "mean"), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("share", [2, 3, 5, 7, 64])
def test_equal_heads_stay_bit_for_bit(dtype: torch.dtype, share: int) -> None:
    head = torch.randn(13, 5, generator=torch.Generator().manual_seed(9)).to(dtype)
    assert torch.equal(merge(head.expand(share, -1, -1), "mean"), head)


def test_large_fp16_heads_do_not_overflow() -> None:
    heads = torch.full((4, 3), 60000.0, dtype=torch.float16)
    assert torch.equal(merge(heads, "mean"), heads[0])


def test_first_head_of_each_group() -> None:
    w = weight()
    pooled = pool_heads(w, N_KV, 5, "first")
    assert torch.equal(pooled.view(5, ROWS, HIDDEN), w.view(5, 3, ROWS, HIDDEN)[:, 0])


def test_random_heads() -> None:
    big = torch.randn(6 * 499, 101)
    first, again, other = (
        pool_heads(big, 6, 2, "random", generator=generator_for(seed, "k"), std=0.3) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # 100,798 draws: mean and deviation are within a few standard errors (0.001 and 0.0007)
    assert abs(float(first.mean())) < 5e-3
    assert float(first.std()) == pytest.approx(0.3, rel=0.02)
    assert not torch.equal(first[:499], first[499:])
    assert torch.equal(pool_heads(big[:, 0], 6, 2, "random", "bias"), torch.zeros(2 * 499))
    assert torch.equal(pool_heads(big[:, 0], 6, 2, "random", "norm"), torch.ones(2 * 499))


def test_generators_depend_on_seed_and_name() -> None:
    draws = {float(torch.rand((), generator=generator_for(s, n))) for s in (0, 1) for n in ("k", "v", "k1")}
    assert len(draws) == 6


@pytest.mark.parametrize("pool", ["mean", "first", "random"])
def test_as_many_heads_is_the_identity(pool: Pool) -> None:
    w = weight(torch.bfloat16)
    assert torch.equal(pool_heads(w, N_KV, N_KV, pool), w)


def test_a_model_in_memory() -> None:
    w = weight()
    state = {"k.weight": w, "k.bias": w[:, 0].contiguous(), "q.weight": w}
    pooled = pool_projections(state, {"k.weight": "weight", "k.bias": "bias"}, N_KV, 3)
    assert pooled["q.weight"] is w
    assert torch.equal(pooled["k.weight"], pool_heads(w, N_KV, 3))
    assert torch.equal(pooled["k.bias"], pooled["k.weight"][:, 0])
    with pytest.raises(ValueError, match=r"no tensor named v\.weight"):
        pool_projections(state, {"v.weight": "weight"}, N_KV, 3)


@pytest.mark.parametrize("k", [0, -1, 2, 4, 30, True, 2.5])
def test_heads_that_do_not_divide(k: int) -> None:
    with pytest.raises(ValueError, match=r"one of 1, 3, 5, 15, got"):
        check_kv_heads(30, N_KV, k)


def test_tensor_that_does_not_split() -> None:
    with pytest.raises(ValueError, match="does not split into 15 heads"):
        pool_heads(torch.zeros(16, 3), N_KV, 3)
    unknown: Any = "median"
    with pytest.raises(ValueError, match="pool must be one of mean, first, random"):
        pool_heads(weight(), N_KV, 3, unknown)
