"""The native kernel over kinds of cache against float64: every kind and format, odd sizes, strides, threads, NaN."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from attention.kernels import compiler
from attention.kernels.kinds import inputs, native, reference, registry, stored
from attention.kernels.kinds.case import KindCase
from attention.timing import kinds
from tests.kernels.kind_samples import SAMPLES, label, preallocated
from tests.long import long, short
from tests.torch_threads import torch_threads

NAN, INF = float("nan"), float("inf")
pytestmark = pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")
FEWER = ("-mno-amx-bf16", "-mno-avx512f", "-mno-avx2 -mno-avx512f -mno-f16c")
"""No tiles; registers of 8 numbers; no conversions either."""
LARGE = [
    # several blocks of many rows, and more rows than are taken at once
    KindCase("latent", "native", 128, 1, 576, 512, 1031),
    KindCase("latent", "native", 67, 1, 96, 64, 523, 2, 3),
    KindCase("full", "native", 14, 2, 128, 128, 2053, 3, 8),
]


@pytest.fixture(params=[1, 3, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with torch_threads(request.param):
        yield request.param


def agrees(case: KindCase, dtype: str) -> None:
    case = replace(case, dtype=dtype, device="cpu")
    torch.manual_seed(7)
    q, cache = inputs.make(case)
    out = registry.implementation("native").run(q, cache)
    assert kinds.measured_error(case, q, cache, out) <= kinds.allowed(case), f"{label(case)} {dtype}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_agrees_with_float64(dtype: str, threads: int) -> None:
    for place, case in enumerate(SAMPLES + short(LARGE, LARGE[1:2])):
        if short(True, threads == (1, 3, 7)[place % 3]):
            agrees(case, dtype)


@long("one thread count of three for each case, and the widest instructions")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor whose wider registers can be left unused")
@pytest.mark.parametrize("without", FEWER)
def test_with_fewer_instructions(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FLAGS", f"{native.FLAGS} {without}")
    for case, dtype in itertools.product(SAMPLES + LARGE, ("float32", "bfloat16", "float16")):
        agrees(case, dtype)
    for dtype in ("float32", "bfloat16"):
        not_finite(dtype, (1, 33, 391))


@pytest.mark.parametrize("kind", ["full", "latent", "window"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_front_of_a_longer_cache_and_positions_before_heads(kind: str, dtype: str) -> None:
    """Strides of caches that engines allocate beforehand: rows beyond the context hold NaN, and are not read."""
    sizes = (1, 96, 64) if kind == "latent" else (2, 64, 32)
    q, cache = preallocated(kind, sizes, getattr(torch, dtype))
    rough = 1e-5 if dtype == "float32" else 0.03
    torch.testing.assert_close(native.attend(q, cache).double(), reference.attention(q, cache), rtol=0, atol=rough)


@pytest.mark.parametrize("cache_format", ["q8_0", "q4_0", "int8-token", "int4-g32", "fp8-head"])
def test_the_front_of_a_longer_quantised_cache(cache_format: str) -> None:
    torch.manual_seed(2)
    planes = [stored.store(torch.randn(2, 2, 90, 64), cache_format) for _ in range(2)]
    own = []
    for plane in planes:
        by_position = plane.scale is not None and cache_format != "fp8-head"
        scale = plane.scale[:, :, :59] if by_position and plane.scale is not None else plane.scale
        zero = None if plane.zero is None else plane.zero[:, :, :59]
        own.append(plane._replace(data=plane.data[:, :, :59], scale=scale, zero=zero))
    for dtype, rough in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        q = torch.randn(2, 6, 1, 64).to(dtype)
        cache = stored.Cache(own[0], own[1], 64, 0.125, 59)
        torch.testing.assert_close(native.attend(q, cache).double(), reference.attention(q, cache), rtol=0, atol=rough)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_and_infinity_as_float64_has_them(dtype: str) -> None:
    not_finite(dtype, (1, 33, 391))


def not_finite(dtype: str, contexts: tuple[int, ...]) -> None:
    for context, which, bad in itertools.product(contexts, range(3), (NAN, INF, -INF)):
        for at in (0, context - 1):
            torch.manual_seed(5)
            shape = (1, 2, context, 48)
            tensors = [
                x.to(getattr(torch, dtype)) for x in (torch.randn(1, 4, 1, 48), torch.randn(shape), torch.randn(shape))
            ]
            tensors[which][0, -1, 0 if which == 0 else at, 17] = bad
            q, k, v = tensors
            as_specified(q, k, v, what=f"{'qkv'[which]} holds {bad} at {at} of {context}")


def test_positions_that_weigh_nothing(threads: int) -> None:
    """Scores of minus infinity: in all that some threads read of the context, at all positions but one, everywhere."""
    for hidden, dtype in itertools.product((slice(0, 300), slice(1, 391), slice(0, 391)), ("float32", "bfloat16")):
        torch.manual_seed(threads)
        q, k, v = (
            x.to(getattr(torch, dtype)) for x in (torch.randn(1, 4, 1, 48).abs(), *torch.randn(2, 1, 2, 391, 48))
        )
        k[0, 1, hidden, 7] = -INF
        as_specified(q, k, v, what=f"-inf scores at {hidden}")
        v[0, 1, 20, 3] = INF
        as_specified(q, k, v, what=f"-inf scores at {hidden}, infinity in v")


def as_specified(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, what: str) -> None:
    cache = stored.Cache(stored.Plane("dtype", 48, k), stored.Plane("dtype", 48, v), 48, 48**-0.5, k.shape[2])
    expected, got = reference.attention(q, cache), native.attend(q, cache).double()
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        assert torch.equal(kind(got), kind(expected)), f"{q.dtype}: {what}: {kind.__name__}"
    finite = expected.isfinite()
    rough = 1e-4 if q.dtype == torch.float32 else 0.05
    torch.testing.assert_close(got[finite], expected[finite], rtol=0, atol=rough)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_is_widened_exactly(dtype: torch.dtype) -> None:
    """All e4m3 numbers, NaN too. A single position that is attended to comes out as it is, except for the division by
    its weight."""
    codes = torch.arange(256, dtype=torch.uint8)
    data = codes.view(torch.float8_e4m3fn).view(256, 1, 1, 1).expand(-1, -1, -1, 48).contiguous()
    values = stored.Plane("fp8-head", 48, data, torch.ones(1))
    keys = stored.Plane("dtype", 48, torch.ones(256, 1, 1, 48, dtype=dtype))
    out = native.attend(torch.ones(256, 1, 1, 48, dtype=dtype), stored.Cache(keys, values, 48, 1.0, 1))
    expected = codes.view(torch.float8_e4m3fn).float()[:, None].expand(-1, 48)
    torch.testing.assert_close(out[:, 0, 0].float(), expected, equal_nan=True, rtol=2e-7, atol=0)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_scale_that_is_not_finite(bad: float) -> None:
    for which, dtype in itertools.product((0, 1), (torch.float32, torch.bfloat16)):
        torch.manual_seed(4)
        k, v = (stored.store(torch.randn(1, 1, 41, 32), "int8-token") for _ in range(2))
        scale = (k, v)[which].scale
        assert scale is not None
        scale[0, 0, 13] = bad
        q = torch.randn(1, 2, 1, 32).to(dtype)
        cache = stored.Cache(k, v, 32, 0.2, 41)
        expected, got = reference.attention(q, cache), native.attend(q, cache).double()
        assert torch.equal(got.isnan(), expected.isnan()), (which, dtype)
        assert torch.equal(got.isposinf(), expected.isposinf()), (which, dtype)


def test_what_it_cannot_take_is_told() -> None:
    q, cache = inputs.make(KindCase("full", "", 4, 2, 32, 32, 5, dtype="float32", device="cpu"))
    side = stored.Plane("dtype", 32, cache.k.data.mT.contiguous().mT)
    with pytest.raises(ValueError, match="must lie side by side, got a stride of 5 in k"):
        native.attend(q, cache._replace(k=side))
    with pytest.raises(ValueError, match="k must have the queries' dtype"):
        native.attend(q.bfloat16(), cache)
    with pytest.raises(ValueError, match="q must be float32, bfloat16 or float16, got float64"):
        native.attend(q.double(), cache)
    with pytest.raises(ValueError, match="batch and context must be at least 1, got 1 and 0"):
        native.attend(q, cache._replace(k=stored.store(cache.k.data[:, :, :0], "dtype")))
    with pytest.raises(ValueError, match="k must have rows of at least 64 elements, got 32"):
        native.attend(torch.ones(1, 4, 1, 64), cache)
    assert "made for processors" in str(native.unavailable("cuda"))
