"""NaN and infinity in q, K and V come out where the float64 specification has them, whatever computes the step."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator

import pytest
import torch

from attention.kernels import compiler, native, reference
from attention.kernels.registry import IMPLEMENTATIONS, PREFILL
from tests.long import SOAK, short
from tests.torch_threads import torch_threads

NAN, INF = float("nan"), float("inf")
DTYPES = ("float32", "bfloat16", "float16")
RUNS_HERE = [n for n, i in IMPLEMENTATIONS.items() if not i.unavailable("cpu") and (not i.compiled or n == "native")]
# left out: on a CPU PyTorch's fused kernel gives 0 where every score of a row is NaN, and we time that kernel as it is
ON_CPU = [n for n in RUNS_HERE if not n.endswith(("_sdpa", "enable_gqa"))]
CASES = [(n, d) for n in ON_CPU for d in DTYPES if SOAK or n == "native" or d == "float32"]
"""Our own kernel in every dtype. PyTorch's products run the same code in all of them, so float32 is enough."""
needs_compiler = pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")


def inputs(dtype: str, n_kv_heads: int, context: int, head_dim: int = 48) -> list[torch.Tensor]:
    """q, k, v of two sequences with six query heads."""
    torch.manual_seed(5)
    kv = (2, n_kv_heads, context, head_dim)
    return [x.to(getattr(torch, dtype)) for x in (torch.randn(2, 6, 1, head_dim), torch.randn(kv), torch.randn(kv))]


def spoilt(dtype: str, n_kv_heads: int, context: int, head_dim: int = 48) -> Iterator[tuple[str, list[torch.Tensor]]]:
    """Each of q, K and V with NaN or an infinity at the first, a middle or the last position, or at several."""
    places = sorted({0, context // 2, context - 1})
    for which, bad in itertools.product(range(3), (NAN, INF, -INF)):
        for at in [[0]] if which == 0 else [[p] for p in places] + [places]:
            tensors = inputs(dtype, n_kv_heads, context, head_dim)
            # one element in the last head of the second sequence: all others must stay as they are
            tensors[which][1, -1, at, head_dim // 3] = bad
            yield f"{'qkv'[which]} holds {bad} at {at} of {context}", tensors


def assert_as_specified(name: str, what: str, tensors: list[torch.Tensor]) -> None:
    expected = reference.attention(*tensors)
    got = IMPLEMENTATIONS[name].run(*tensors).double()
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        assert torch.equal(kind(got), kind(expected)), f"{name}, {tensors[0].dtype}: {what}: {kind.__name__}"
    finite = expected.isfinite()
    rough = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}[tensors[0].dtype]
    torch.testing.assert_close(got[finite], expected[finite], rtol=0, atol=rough)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_as_the_specification_has_them(name: str, dtype: str) -> None:
    for n_kv_heads, context in ((6, 1), (3, 31), (2, 64), (1, 515)):
        for what, tensors in spoilt(dtype, n_kv_heads, context):
            assert_as_specified(name, what, tensors)


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor whose wider registers can be left unused")
@pytest.mark.parametrize(
    "without",
    short(
        ["-mno-avx512bf16", "-mno-avx512f", "-mno-avx2 -mno-avx512f -mno-f16c"], ["-mno-avx2 -mno-avx512f -mno-f16c"]
    ),
)
def test_native_with_fewer_instructions(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FLAGS", f"{native.FLAGS} {without}")
    for dtype, (n_kv_heads, context) in itertools.product(DTYPES, ((6, 33), (1, 71))):
        for what, tensors in spoilt(dtype, n_kv_heads, context, head_dim=96):
            assert_as_specified("native", what, tensors)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_positions_that_weigh_nothing(name: str, dtype: str) -> None:
    """Scores of minus infinity: at some positions, in a whole chunk, at all positions but one, everywhere."""
    context = 1100
    for hidden in (slice(40, 45), slice(0, 512), slice(512, 1024), slice(0, 1099), slice(1, 1100), slice(0, 1100)):
        q, k, v = inputs(dtype, 2, context)
        q.abs_()
        k[1, 1, hidden, 7] = -INF
        assert_as_specified(name, f"-inf scores at {hidden}", [q, k, v])
        v[1, 1, 600, 3] = INF
        assert_as_specified(name, f"-inf scores at {hidden}, infinity in v", [q, k, v])


@needs_compiler
def test_nan_with_a_payload() -> None:
    q, k, v = inputs("float32", 2, 70)
    k.view(torch.int32)[1, 1, 5, 3] = 0x7FC001FF
    assert_as_specified("native", "NaN with a payload", [q, k, v])


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3, 7])
def test_native_rows_that_threads_share(threads: int) -> None:
    with torch_threads(threads):
        for what, tensors in spoilt("float32", 1, 700):
            assert_as_specified("native", what, tensors)
        q, k, v = inputs("float32", 1, 700)
        q.abs_()
        k[:, :, :600, 7] = -INF  # some threads see nothing at all
        assert_as_specified("native", "600 of 700 hidden", [q, k, v])


@pytest.mark.parametrize("name", RUNS_HERE)
def test_no_position_is_refused_and_no_sequence_is_empty(name: str) -> None:
    q, k, v = inputs("float32", 2, 8)
    with pytest.raises(ValueError, match="context must be at least 1, got 0"):
        IMPLEMENTATIONS[name].run(q, k[:, :, :0], v[:, :, :0])
    assert IMPLEMENTATIONS[name].run(q[:0], k[:0], v[:0]).shape == (0, 6, 1, 48)


@pytest.mark.parametrize("name", list(PREFILL))
def test_prefill_of_nothing(name: str) -> None:
    q, k, v = inputs("float32", 2, 8)
    with pytest.raises(ValueError, match="context must be at least 1, got 0"):
        PREFILL[name].run(q[:, :, :0], k[:, :, :0], v[:, :, :0])
    assert PREFILL[name].run(q[:0], k[:0], v[:0]).shape == (0, 6, 1, 48)
