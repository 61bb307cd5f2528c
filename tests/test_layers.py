"""The three attention classes equal one another where they must, and equal the float64 specification."""

from __future__ import annotations

import importlib
import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError, install_import_hook

import attention
from attention import layers
from attention.kernels import reference
from attention.layers import GroupedQueryAttention, KVCache, MultiHeadAttention, MultiQueryAttention, rotate

# distinct primes, so that swapped axes cannot pass; n_heads = 6 has the proper divisors 2 and 3
BATCH, HIDDEN, TOKENS, HEAD_DIM, N_HEADS = 5, 13, 11, 14, 6
TOLERANCE = 1e-12  # float64: a few hundred additions of numbers near 1


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


def grouped(n_kv_heads: int) -> GroupedQueryAttention:
    return GroupedQueryAttention(HIDDEN, N_HEADS, HEAD_DIM, n_kv_heads).double()


def tokens(n: int = TOKENS) -> torch.Tensor:
    return torch.randn(BATCH, n, HIDDEN, dtype=torch.float64)


def cache_of(layer: GroupedQueryAttention | MultiHeadAttention | MultiQueryAttention, capacity: int) -> KVCache:
    return KVCache(BATCH, layer.n_kv_heads, capacity, HEAD_DIM, torch.float64)


def as_specified(layer: GroupedQueryAttention, x: torch.Tensor) -> torch.Tensor:
    """The layer's output, computed with ``reference.attention``."""
    q, k, v = (
        p(x).view(BATCH, -1, heads, HEAD_DIM).transpose(1, 2)
        for p, heads in (
            (layer.q_proj, N_HEADS),
            (layer.k_proj, layer.n_kv_heads),
            (layer.v_proj, layer.n_kv_heads),
        )
    )
    out = reference.attention(rotate(q, 0), rotate(k, 0), v)
    return layer.o_proj(out.transpose(1, 2).reshape(BATCH, -1, N_HEADS * HEAD_DIM))


@pytest.mark.parametrize("n_kv_heads", [6, 3, 2, 1])
def test_prefill_equals_the_specification(n_kv_heads: int) -> None:
    layer, x = grouped(n_kv_heads), tokens()
    torch.testing.assert_close(layer(x), as_specified(layer, x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("n_kv_heads", [6, 3, 2, 1])
@pytest.mark.parametrize("steps", [(TOKENS,), (1,) * TOKENS, (7, 1, 3), (2, 5, 1, 3)], ids=str)
def test_any_division_into_steps_gives_the_same(n_kv_heads: int, steps: tuple[int, ...]) -> None:
    layer, x = grouped(n_kv_heads), tokens()
    cache = cache_of(layer, TOKENS)
    parts = [layer(part, cache) for part in x.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), as_specified(layer, x), rtol=0, atol=TOLERANCE)
    assert cache.length == TOKENS


@pytest.mark.parametrize(("other", "n_kv_heads"), [(MultiHeadAttention, N_HEADS), (MultiQueryAttention, 1)])
def test_grouped_attention_contains_both_others(other: type, n_kv_heads: int) -> None:
    same = other(HIDDEN, N_HEADS, HEAD_DIM).double()
    layer = grouped(n_kv_heads)
    layer.load_state_dict(same.state_dict())  # strict: the same weights of the same shapes
    x = tokens()
    torch.testing.assert_close(same(x), layer(x), rtol=0, atol=TOLERANCE)
    caches = cache_of(same, TOKENS), cache_of(layer, TOKENS)
    for token in x.split(1, dim=1):
        torch.testing.assert_close(same(token, caches[0]), layer(token, caches[1]), rtol=0, atol=TOLERANCE)
    assert caches[0].nbytes == caches[1].nbytes == 2 * BATCH * n_kv_heads * TOKENS * HEAD_DIM * 8


def test_a_group_is_a_run_of_query_heads() -> None:
    """Silencing K/V head 1 of 3 silences query heads 2 and 3 and no others."""
    layer, x = grouped(3), tokens()
    heads: list[torch.Tensor] = []
    layer.o_proj.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0]))
    with torch.no_grad():
        layer.v_proj.weight.view(3, HEAD_DIM, HIDDEN)[1] = 0
    layer(x)
    out = heads[0].view(BATCH, TOKENS, N_HEADS, HEAD_DIM).abs().amax(dim=(0, 1, 3))
    assert [bool(o == 0) for o in out] == [False, False, True, True, False, False]


def test_rotation_against_complex_numbers() -> None:
    """Pair j of the token at position p is a complex number, multiplied by exp(i p theta^(-2j / head_dim))."""
    x, start = torch.randn(BATCH, 3, TOKENS, HEAD_DIM, dtype=torch.float64), 17
    turned = rotate(x, start)
    for p in range(TOKENS):
        for j in range(HEAD_DIM // 2):
            angle = (start + p) * 10_000 ** (-2 * j / HEAD_DIM)
            factor = complex(math.cos(angle), math.sin(angle))
            expected = torch.complex(x[..., p, j], x[..., p, j + HEAD_DIM // 2]) * factor
            got = torch.complex(turned[..., p, j], turned[..., p, j + HEAD_DIM // 2])
            torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)


def test_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, HEAD_DIM, dtype=torch.float64)
    near = (rotate(q, 23) * rotate(k, 19)).sum()
    far = (rotate(q, 1_000_023) * rotate(k, 1_000_019)).sum()
    other = (rotate(q, 23) * rotate(k, 18)).sum()
    # angles near a million radians are known to 1e-10
    torch.testing.assert_close(near, far, rtol=0, atol=1e-8)
    assert abs(near - other) > 1e-3


def test_a_full_cache_says_so() -> None:
    layer = grouped(2)
    cache = cache_of(layer, 3)
    layer(tokens(3), cache)
    with pytest.raises(ValueError, match="the cache holds 3 tokens, got 4"):
        layer(tokens(1), cache)


@pytest.mark.parametrize("n_kv_heads", [4, 0, 7, -1])
def test_heads_that_cannot_be_shared_out(n_kv_heads: int) -> None:
    with pytest.raises(ValueError, match=f"n_kv_heads must divide n_heads = 6, got {n_kv_heads}"):
        grouped(n_kv_heads)


def test_an_odd_head_cannot_be_rotated() -> None:
    with pytest.raises(ValueError, match="head_dim must be even to be rotated in pairs, got 7"):
        rotate(torch.zeros(1, 1, 1, 7), 0)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """attention.layers with every annotated shape checked at run time. Afterwards the ordinary module is back."""
    monkeypatch.setattr(attention, "layers", layers)
    monkeypatch.delitem(sys.modules, "attention.layers")
    with install_import_hook("attention.layers", "beartype.beartype"):
        return importlib.import_module("attention.layers")


def test_annotated_shapes_hold(checked: Any) -> None:
    for layer in (
        checked.MultiHeadAttention(HIDDEN, N_HEADS, HEAD_DIM),
        checked.MultiQueryAttention(HIDDEN, N_HEADS, HEAD_DIM),
        checked.GroupedQueryAttention(HIDDEN, N_HEADS, HEAD_DIM, 3),
    ):
        cache = checked.KVCache(BATCH, layer.n_kv_heads, TOKENS, HEAD_DIM)
        for part in tokens().float().split((7, 1, 3), dim=1):
            layer(part, cache)
    with pytest.raises(TypeCheckError):
        checked.attend(torch.zeros(2, 3, 1, 1, 5), torch.zeros(2, 3, 7, 5), torch.zeros(2, 1, 7, 5))


def test_the_file_runs_with_torch_alone(tmp_path: Path) -> None:
    """The classes are offered as one file to download."""
    path = tmp_path / "layers.py"
    path.write_text(Path(str(layers.__file__)).read_text())
    program = (
        "import sys; sys.modules['jaxtyping'] = None\n"
        "import torch, layers\n"
        "print(*layers.GroupedQueryAttention(13, 6, 14, 3)(torch.zeros(2, 5, 13)).shape)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["2", "5", "13"], run.stderr
