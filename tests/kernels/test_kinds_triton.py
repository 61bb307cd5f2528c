"""Triton's kernels and other libraries' against float64, for every kind of cache.

They run on CUDA where there is a GPU. Elsewhere they run in Triton's interpreter, in a process of its own, since Triton
decides at its import whether it interprets. This needs only torch, Triton and pytest: ``python -m bench.gpu`` runs it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from attention.kernels.kinds import fused, inputs, reference, registry, stored
from attention.kernels.kinds.case import CACHE_FORMATS, KindCase
from attention.timing import kinds
from tests.kernels.kind_samples import QUICK, SAMPLES, label, preallocated

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
NAN, INF = float("nan"), float("inf")
# the interpreter's own, where a number is not finite
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
runs_here = pytest.mark.skipif(bool(fused.unavailable(DEVICE)), reason="needs a GPU or Triton's interpreter")
WHOLE = CUDA or os.environ.get("HEADSHARE_SOAK") == "1"
"""Whether all cases run. Triton's interpreter takes a minute of processor time for them, so without a GPU only the long
form has them all."""
CASES = SAMPLES if WHOLE else QUICK
DTYPES = ("bfloat16", "float16", "float32") if CUDA else ("float32", "bfloat16")


@pytest.mark.skipif(CUDA or fused.interpreted(), reason="run on the GPU, or already in the interpreter")
@pytest.mark.skipif(not find_spec("triton"), reason="Triton is made for Linux")
def test_in_the_interpreter() -> None:
    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(root),
        "--import-mode=importlib",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", __file__],
        cwd=root,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.fixture(autouse=True)
def likeliest_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first tile of each shape is tried: trying all of them would compile three times as much."""
    monkeypatch.setattr(fused, "tile_of", lambda shape, known, launch: known[0])


def error_of(case: KindCase, name: str = "triton") -> tuple[float, float]:
    """The error of one implementation, and the error that is allowed."""
    torch.manual_seed(7)
    q, cache = inputs.make(case)
    with torch.inference_mode():
        out = registry.implementation(name).run(q, cache)
    return kinds.measured_error(case, q, cache, out), kinds.allowed(case)


@runs_here
@pytest.mark.parametrize("place", range(len(CASES)), ids=[label(case) for case in CASES])
def test_triton_agrees_with_float64(place: int) -> None:
    case = replace(CASES[place], dtype=DTYPES[place % len(DTYPES)], device=DEVICE)
    error, allowed = error_of(case)
    assert error <= allowed


@runs_here
@pytest.mark.skipif(not WHOLE, reason="the long form")
@pytest.mark.parametrize("which", [0, 1, 2] if CUDA else [1, 2])  # in the interpreter the first is tried above
@pytest.mark.parametrize("case", [SAMPLES[3], SAMPLES[13], SAMPLES[-4]], ids=label)
def test_every_tile_agrees_with_float64(case: KindCase, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "tile_of", lambda shape, known, launch: known[which % len(known)])
    error, allowed = error_of(replace(case, dtype="bfloat16", device=DEVICE))
    assert error <= allowed


@runs_here
@pytest.mark.parametrize("kind", ["full", "latent", "window"] if WHOLE else ["window"])
def test_the_front_of_a_longer_cache_and_positions_before_heads(kind: str) -> None:
    """Strides of caches that engines allocate beforehand: rows beyond the context hold NaN, and are not read."""
    sizes = (1, 72, 64) if kind == "latent" else (2, 48, 48)
    q, cache = preallocated(kind, sizes, torch.float32, DEVICE)
    torch.testing.assert_close(fused.attend(q, cache).double(), reference.attention(q, cache), rtol=1e-4, atol=1e-5)


@runs_here
@pytest.mark.parametrize("cache_format", ["q8_0", "int8-token", "int4-g32"] if WHOLE else ["q8_0"])
def test_the_front_of_a_longer_quantised_cache(cache_format: str) -> None:
    planes = [stored.store(torch.randn(2, 2, 90, 64, device=DEVICE), cache_format) for _ in range(2)]
    own = [
        plane._replace(
            data=plane.data[:, :, :59],
            scale=None if plane.scale is None else plane.scale[:, :, :59],
            zero=None if plane.zero is None else plane.zero[:, :, :59],
        )
        for plane in planes
    ]
    q = torch.randn(2, 6, 1, 64, device=DEVICE)
    cache = stored.Cache(own[0], own[1], 64, 0.125, 59)
    torch.testing.assert_close(fused.attend(q, cache).double(), reference.attention(q, cache), rtol=1e-4, atol=1e-5)


@runs_here
@pytest.mark.parametrize("context", [1, 33, 391] if WHOLE else [33])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"] if WHOLE else ["float32"])
def test_nan_and_infinity_as_float64_has_them(dtype: str, context: int) -> None:
    for which, bad, at in itertools.product(range(3), (NAN, INF, -INF), (0, context - 1) if WHOLE else (7,)):
        torch.manual_seed(5)
        shape = (1, 2, context, 48)
        tensors = [
            x.to(getattr(torch, dtype)) for x in (torch.randn(1, 4, 1, 48), torch.randn(shape), torch.randn(shape))
        ]
        tensors[which][0, -1, 0 if which == 0 else at, 17] = bad
        assert_as_specified(*tensors)


@runs_here
def test_positions_that_weigh_nothing() -> None:
    """Scores of minus infinity: in a whole part of the context, at all positions but one, everywhere."""
    for hidden in (slice(0, 300), slice(1, 391), slice(0, 391)) if WHOLE else (slice(0, 300),):
        q, k, v = torch.randn(1, 4, 1, 48).abs(), torch.randn(1, 2, 391, 48), torch.randn(1, 2, 391, 48)
        k[0, 1, hidden, 7] = -INF
        assert_as_specified(q, k, v)
        v[0, 1, 20, 3] = INF
        assert_as_specified(q, k, v)


def assert_as_specified(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    planes = (stored.Plane("dtype", 48, k), stored.Plane("dtype", 48, v))
    cache = stored.Cache(*planes, 48, 48**-0.5, k.shape[2])
    expected, got = reference.attention(q, cache), fused.attend(q, cache).double()
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        assert torch.equal(kind(got), kind(expected)), kind.__name__
    finite = expected.isfinite()
    rough = 1e-4 if q.dtype == torch.float32 else 0.05
    torch.testing.assert_close(got[finite], expected[finite], rtol=0, atol=rough)


@runs_here
def test_fp8_is_widened_exactly() -> None:
    """Zeros, the smallest and largest e4m3 numbers, and NaN: a position attended to alone comes out as it is."""
    codes = torch.arange(256, dtype=torch.uint8)
    data = codes.view(torch.float8_e4m3fn).view(1, 1, 256, 1).expand(-1, -1, -1, 16).contiguous()
    for code in (0, 1, 7, 8, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF, 0x38, 0xC5) if WHOLE else (1, 0x7E, 0xFF, 0xC5):
        one = stored.Plane("fp8-head", 16, data[:, :, code : code + 1].to(DEVICE), torch.ones(1, device=DEVICE))
        keys = stored.Plane("dtype", 16, torch.ones(1, 1, 1, 16, device=DEVICE))
        out = fused.attend(torch.ones(1, 1, 1, 16, device=DEVICE), stored.Cache(keys, one, 16, 1.0, 1))
        expected = codes[code : code + 1].view(torch.float8_e4m3fn).float().expand(16)
        torch.testing.assert_close(out.flatten().cpu(), expected, equal_nan=True, rtol=0, atol=0)


@runs_here
def test_what_it_cannot_take_is_told() -> None:
    q, cache = inputs.make(KindCase("full", "", 4, 2, 32, 32, 5, dtype="float32", device=DEVICE))
    with pytest.raises(ValueError, match="must lie side by side, got a stride of 5"):
        fused.attend(q, cache._replace(k=stored.Plane("dtype", 32, cache.k.data.mT.contiguous().mT)))
    assert "largest power of two" in str(fused.unsuited(KindCase("latent", "", 4, 1, 96, 32)))


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["flash", "cudnn", "efficient", "flashinfer"])
@pytest.mark.parametrize("case", [*SAMPLES[1:7], SAMPLES[11], SAMPLES[16], SAMPLES[20]], ids=label)
def test_other_libraries_agree_with_float64_or_say_why_not(name: str, case: KindCase) -> None:
    case = replace(case, dtype="bfloat16", device="cuda")
    why = registry.implementation(name).refuses(case)
    error = allowed = 0.0
    if not why:
        try:
            error, allowed = error_of(case, name)
        except RuntimeError as found:
            why = str(found)
    assert error <= allowed
    assert why is None or len(why) > 10


def test_splits_keep_the_device_busy() -> None:
    room = 264
    for places in (1, 7, 8, 32, 100, 131, 256, 1000):
        for slots in (64, 1_000, 16_384, 131_072):
            n = fused.splits(places, slots, 64, room)
            assert 1 <= n <= max(1, min(fused.MOST_SPLITS, slots // 128))
    assert fused.splits(8, 131_072, 64, room) == 30  # 240 of 264 at once
    assert fused.splits(1_000, 131_072, 64, room) == 1


def test_every_format_has_a_number_in_the_kernel() -> None:
    assert set(fused.FORMATS) == set(CACHE_FORMATS)
