"""Every implementation against the float64 specification."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.kernels import compiled, compiler, cpp, libraries, native, plain, prebuilt, reference, registry
from attention.kernels.case import Case
from attention.kernels.reference import relative_error, tolerance
from attention.kernels.registry import IMPLEMENTATIONS, PREFILL
from tests.long import long, short
from tests.torch_threads import torch_threads

PLAIN = [name for name, impl in IMPLEMENTATIONS.items() if not impl.compiled and not impl.unavailable("cpu")]
needs_compiler = pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")

COMPILED = [name for name, impl in IMPLEMENTATIONS.items() if impl.compiled]


def tensors(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dtype = getattr(torch, case.dtype)
    query = case.context if case.phase == "prefill" else 1
    kv = (case.batch, case.n_kv_heads, case.context, case.head_dim)
    torch.manual_seed(7)  # the tolerance is meant for one draw: among many thousands, one exceeds it
    q = torch.randn(case.batch, case.n_heads, query, case.head_dim)
    return q.to(dtype), torch.randn(*kv).to(dtype), torch.randn(*kv).to(dtype)


def error_of(case: Case) -> float:
    q, k, v = tensors(case)
    impl = registry.implementation(case.implementation, case.phase)
    out = impl.run(q, k, v)
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    return relative_error(out, reference.attention(q, k, v))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("n_kv_heads", [15, 5, 3, 1])
@pytest.mark.parametrize("name", PLAIN)
def test_decode_equals_the_specification(name: str, n_kv_heads: int, dtype: str) -> None:
    # 1,031 positions: two chunks of 512 and a rest of 7
    case = Case(name, 15, n_kv_heads, 11, 1031, 2, dtype, "cpu")
    assert error_of(case) < tolerance(dtype, case.context)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_kv_heads", [15, 5, 1])
@pytest.mark.parametrize("name", list(PREFILL))
def test_prefill_equals_the_specification(name: str, n_kv_heads: int, dtype: str) -> None:
    case = Case(name, 15, n_kv_heads, 11, 37, 2, dtype, "cpu", "prefill")
    assert error_of(case) < tolerance(dtype, case.context)


@settings(max_examples=40)
@given(
    name=st.sampled_from(PLAIN),
    group_size=st.integers(1, 5),
    n_kv_heads=st.integers(1, 4),
    head_dim=st.integers(1, 19),
    context=st.one_of(st.integers(1, 40), st.sampled_from([511, 512, 513, 1024])),
    batch=st.integers(1, 3),
)
def test_decode_at_any_shape(
    name: str, group_size: int, n_kv_heads: int, head_dim: int, context: int, batch: int
) -> None:
    case = Case(name, group_size * n_kv_heads, n_kv_heads, head_dim, context, batch, "float32", "cpu")
    assert error_of(case) < tolerance("float32", context)


@needs_compiler
@long("the same function before it is compiled")
@pytest.mark.slow
# raised inside torch while it compiles
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_compiled_decode_equals_the_specification() -> None:
    # Sizes left open must not be mixed up when they change: this compiles once.
    for batch, n_kv_heads, context in ((2, 3, 1031), (3, 5, 1536)):
        case = Case("split_compiled", 2 * n_kv_heads, n_kv_heads, 16, context, batch, "float32", "cpu")
        assert error_of(case) < tolerance("float32", context)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("head_dim", [48, 64])  # a pair of bfloat16 registers does not divide the first
def test_native_decode_equals_the_specification(head_dim: int, dtype: str) -> None:
    # groups of 1, 3 and 15: tiles of one, two, four and eight heads; contexts within a block, whole blocks, with a rest
    for n_kv_heads in (15, 5, 1):
        for context in short((1, 32, 63, 512, 1031), (1, 63, 544)):
            case = Case("native", 15, n_kv_heads, head_dim, context, 2, dtype, "cpu")
            assert error_of(case) < tolerance(dtype, context)


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor whose wider registers can be left unused")
@pytest.mark.parametrize(
    "without", short(["-mno-avx512bf16", "-mno-avx512f", "-mno-avx2 -mno-avx512f -mno-f16c"], ["-mno-avx512f"])
)
def test_native_with_fewer_instructions(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FLAGS", f"{native.FLAGS} {without}")
    for dtype in ("float32", "bfloat16", "float16"):
        for n_kv_heads in (15, 1):
            case = Case("native", 15, n_kv_heads, 96, 71, 2, dtype, "cpu")
            assert error_of(case) < tolerance(dtype, case.context)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_native_splits_rows_over_any_number_of_threads(threads: int) -> None:
    with torch_threads(threads):
        for batch, n_kv_heads, context in ((1, 1, 130), (1, 3, 700), (2, 5, 40)):
            case = Case("native", 2 * n_kv_heads, n_kv_heads, 48, context, batch, "float32", "cpu")
            assert error_of(case) < tolerance("float32", context)


@needs_compiler
def test_native_reads_the_front_of_a_longer_cache() -> None:
    q, k, v = torch.randn(2, 6, 1, 48), torch.randn(2, 3, 200, 48), torch.randn(2, 3, 200, 48)
    k[:, :, 150:], v[:, :, 150:] = float("nan"), float("nan")
    out = IMPLEMENTATIONS["native"].run(q, k[:, :, :150], v[:, :, :150])
    assert relative_error(out, reference.attention(q, k[:, :, :150], v[:, :, :150])) < tolerance("float32", 150)
    # heads beside each other in memory, as some libraries keep them
    mixed = torch.randn(2, 150, 3, 48).transpose(1, 2)
    out = IMPLEMENTATIONS["native"].run(q, mixed, mixed)
    assert relative_error(out, reference.attention(q, mixed, mixed)) < tolerance("float32", 150)


@needs_compiler
def test_native_says_why_it_cannot_be_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "FLAGS", "--no-such-flag")
    monkeypatch.setenv("HEADSHARE_DATA_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"the C\+\+ compiler failed on the decode kernel: .*no-such-flag"):
        IMPLEMENTATIONS["native"].run(*tensors(Case("native", 4, 2, 16, 5)))
    assert list((tmp_path / "native").iterdir()) == []


@pytest.mark.parametrize("context", [1, 97, 512, 1031])
@pytest.mark.parametrize("group_size", [1, 3])
def test_the_split_context_uncompiled(context: int, group_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "compile_parts", lambda function: function)
    case = Case("split_compiled", 5 * group_size, 5, 11, context, 2, "float32", "cpu")
    assert error_of(case) < tolerance("float32", context)


def test_extreme_scores_do_not_overflow() -> None:
    q = torch.full((1, 4, 1, 8), 100.0)
    k, v = torch.randn(1, 2, 1031, 8) * 100, torch.randn(1, 2, 1031, 8)
    expected = reference.attention(q, k, v)
    for name in PLAIN:
        # one position decides nearly alone; scores near 10^5 are rounded to 0.01 in float32
        torch.testing.assert_close(IMPLEMENTATIONS[name].run(q, k, v).double(), expected, rtol=0, atol=0.05)


def test_the_tolerance_finds_a_lost_chunk() -> None:
    """An error that is easily missed: the last 1 % of the context is left out."""
    for dtype in ("float32", "bfloat16"):
        q, k, v = tensors(Case("folded_matmul", 6, 2, 16, 4096, 1, dtype, "cpu"))
        wrong = plain.folded_matmul(q, k[:, :, :4055], v[:, :, :4055])
        error = relative_error(wrong, reference.attention(q, k, v))
        assert error > tolerance(dtype, 4096)


def test_every_implementation_says_what_it_teaches() -> None:
    for name, impl in {**IMPLEMENTATIONS, **PREFILL}.items():
        assert impl.name == name
        assert 3 <= len(impl.label) <= 32
        assert 20 <= len(impl.why) <= 130
        assert "\n" not in impl.why


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        ValueError, match=re.escape("implementation must be one of repeat_sdpa, enable_gqa, folded_sdpa")
    ):
        registry.implementation("flash9000")
    with pytest.raises(ValueError, match="for prefill, got 'folded_matmul'"):
        registry.implementation("folded_matmul", "prefill")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    remembered = compiled.no_compiler, compiler.here, cpp.unavailable, native.why_not
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_plain_ones_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prebuilt, "found", dict[str, Path])
    case = Case("", 32, 8, 128, 4096, device="cpu")
    assert set(registry.suited(case)) == set(PLAIN)
    assert "C++ compiler" in (IMPLEMENTATIONS["native"].unavailable("cpu") or "")


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_native_has_the_head_sizes_that_were_built_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prebuilt, "found", lambda: {"decode-64": Path("a"), "decode-128": Path("b")})
    assert "native" in registry.suited(Case("", 32, 8, 128, 4096, device="cpu"))
    case = Case("native", 4, 2, 48, 5, device="cpu")
    why = "without a C++ compiler needs a head_dim of 64, 128, got 48"
    assert IMPLEMENTATIONS["native"].unsuited(case) == why
    with pytest.raises(RuntimeError, match="the decode kernel cannot be built: there is no C\\+\\+ compiler"):
        cpp.library(libraries.decode(48))


@needs_compiler
def test_native_without_openmp_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Apple's compiler. Calls one after another use the same threads, also when their number changes."""
    flags = native.FLAGS.replace("-O3", "-O1").replace("-fopenmp", "-fno-openmp")
    monkeypatch.setattr(native, "FLAGS", flags)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3, 2, 7):
            torch.set_num_threads(threads)
            for n_kv_heads, context in ((1, 130), (3, 700)):
                case = Case("native", 2 * n_kv_heads, n_kv_heads, 16, context, 2, "float32", "cpu")
                assert error_of(case) < tolerance("float32", context)
    finally:
        torch.set_num_threads(before)
