"""Matrix-vector products against float64: every kind of weight, odd sizes, strides, threads, NaN and infinity."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from attention.kernels import compiler, cpp, matvec
from attention.kernels.matvec import Int8Rows, Q4Blocks, Q8Blocks, Weight
from tests.long import short
from tests.torch_threads import torch_threads

needs_compiler = pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")
KINDS = ("float32", "bfloat16", "float16", "int8", "q4_0", "q4_1", "q8_0")


def weight_of(kind: str, rows: int, columns: int) -> Weight:
    torch.manual_seed(7)
    drawn = torch.randn(rows, columns)
    if kind == "int8":
        return Int8Rows.of(drawn)
    if kind == "q8_0":
        return Q8Blocks.of(drawn)
    return Q4Blocks.of(drawn, kind) if kind.startswith("q4") else drawn.to(getattr(torch, kind))


def wide(weight: Weight) -> torch.Tensor:
    """The weights as they are stored, in float64."""
    return weight.double() if isinstance(weight, torch.Tensor) else weight.widened().double()


def exact(weight: Weight, x: torch.Tensor) -> torch.Tensor:
    return x.double() @ wide(weight).mT


def check(weight: Weight, x: torch.Tensor) -> None:
    expected, y = exact(weight, x), matvec.matvec(weight, x)
    assert y.shape == expected.shape
    assert y.dtype == x.dtype
    # the result's own rounding; at most 1,100 products added up in float32; blocks of four bits round x to 16 bits of
    # the largest of 32, which moves a result by 2e-5 of its usual size, and one of thousands by six times as much
    step = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[x.dtype]
    usual = wide(weight).norm(dim=1) * x.double().square().mean().sqrt()
    allowed = step * expected.abs() + (1.2e-4 if isinstance(weight, Q4Blocks) else 1e-5) * usual
    assert ((y.double() - expected).abs() <= allowed).all()


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_vectors_equals_float64(kind: str) -> None:
    # columns: less than a register, whole lines, a rest; of blocks: one, a group of 16, a group and a rest
    for columns in (32, 512, 544, 1056) if kind.startswith("q") else (1, 13, 64, 131, 1031):
        weight = weight_of(kind, 11, columns)
        for vectors in short(range(1, 9), (1, 3, 8)):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                check(weight, torch.randn(vectors, columns).to(dtype))


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor whose wider registers can be left unused")
@pytest.mark.skipif(os.environ.get("HEADSHARE_SOAK") != "1", reason="each takes the compiler seven seconds")
@pytest.mark.parametrize(
    "without", ["-mno-avx512bf16 -mno-avx512vnni", "-mno-avx512f", "-mno-avx2 -mno-avx512f -mno-f16c"]
)
def test_with_fewer_instructions(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matvec, "FLAGS", f"{matvec.FLAGS.replace('-O3', '-O2')} {without}")
    for kind in KINDS:
        for vectors in (1, 3, 8):
            weight = weight_of(kind, 7, 544)
            check(weight, torch.randn(vectors, 544))
            check(weight, torch.randn(vectors, 544).bfloat16())


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_rows_are_split_over_any_number_of_threads(threads: int) -> None:
    with torch_threads(threads):
        for rows in (1, 2, 5, 23, 64):
            for kind in ("float32", "bfloat16", "q4_1"):
                check(weight_of(kind, rows, 96), torch.randn(2, 96))


@needs_compiler
def test_rows_may_lie_apart_and_vectors_anyhow() -> None:
    held = torch.randn(13, 200)
    held[:, 97:] = float("nan")
    check(held[::2, :97], torch.randn(97, 3).mT)
    x = torch.randn(2, 3, 97)
    y = matvec.matvec(held[:, :97], x)
    torch.testing.assert_close(y.double(), exact(held[:, :97], x), rtol=1e-5, atol=1e-4)
    assert matvec.matvec(held[:, :97], torch.randn(97)).shape == (13,)
    assert matvec.matvec(held[:, :97], torch.randn(0, 97)).shape == (0, 13)


@needs_compiler
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_is_as_in_float64(kind: str, value: float) -> None:
    weight, x = weight_of(kind, 5, 64), torch.randn(3, 64)
    x[1, 37] = value
    expected, y = exact(weight, x), matvec.matvec(weight, x)
    finite = expected.isfinite()
    torch.testing.assert_close(y[~finite].double(), expected[~finite], equal_nan=True)
    torch.testing.assert_close(y[finite].double(), expected[finite], rtol=1e-4, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("kind", ["q4_0", "q4_1"])
def test_a_scale_that_is_no_number_spoils_its_row_alone(kind: str) -> None:
    weight = weight_of(kind, 5, 96)
    assert isinstance(weight, Q4Blocks)
    block = weight.data.view(5, 3, -1)[2, 1]
    block[:2] = torch.tensor([float("inf")]).half().view(torch.uint8)
    block[-16:] |= 0x99  # no weight of 8 or 0: infinity would make those NaN
    x = torch.rand(2, 96)
    expected, y = exact(weight, x), matvec.matvec(weight, x)
    assert expected[:, 2].isinf().all()
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-3)


@needs_compiler
def test_the_smallest_and_the_largest_numbers() -> None:
    weight = weight_of("q4_1", 3, 64)
    for size in (1e-37, 1e-20, 1e30):
        x = torch.randn(1, 64) * size
        torch.testing.assert_close(
            matvec.matvec(weight, x).double() / size, exact(weight, x) / size, rtol=1e-3, atol=1e-3
        )
    assert not matvec.matvec(weight, torch.zeros(1, 64)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_pytorch_computes_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp, "unavailable", lambda library: "none")
    check(weight_of(kind, 7, 64), torch.randn(3, 64))


def test_a_block_is_read_as_ggml_lays_it() -> None:
    """By hand: the lower halves are the first 16 columns."""
    row = torch.tensor([0.5, -2.0]).half().view(torch.uint8).tolist() + [16 * (15 - i) + i for i in range(16)]
    first = [0.5 * i - 2 for i in range(16)]
    assert Q4Blocks(torch.tensor([row], dtype=torch.uint8), "q4_1").widened().tolist() == [first + first[::-1]]
    data = torch.tensor([row[:2] + row[4:]], dtype=torch.uint8)
    first = [0.5 * (i - 8) for i in range(16)]
    assert Q4Blocks(data, "q4_0").widened().tolist() == [first + first[::-1]]


def test_rounding_stays_within_half_a_step() -> None:
    drawn = torch.randn(3, 64)
    drawn[0, :32] = 0
    for kind, steps in (("q4_0", 8), ("q4_1", 15)):
        blocks = drawn.unflatten(1, (-1, 32))
        spread = blocks.abs().amax(-1) if kind == "q4_0" else blocks.amax(-1) - blocks.amin(-1)
        error = (Q4Blocks.of(drawn, kind).widened() - drawn).unflatten(1, (-1, 32)).abs().amax(-1)
        # Q4_0 has one step less on its far side
        assert (error <= spread / steps * (1.01 if kind == "q4_0" else 0.51) + 1e-3).all()
    int8 = Int8Rows.of(drawn)
    assert ((int8.widened() - drawn).abs() <= 0.51 * int8.scale[:, None]).all()


def test_what_cannot_be_taken_is_named() -> None:
    weight, x = torch.randn(5, 64), torch.randn(2, 64)
    for wrong, given, message in (
        (weight, torch.randn(9, 64), "x must be at most 8 vectors, got 9"),
        (weight, torch.randn(2, 63), r"x must end in 64 columns as the weight has them, got \[2, 63\]"),
        (weight, x.double(), "x must be float32, bfloat16 or float16, got float64"),
        (weight.double(), x, r"weight must be .* got float64 \[5, 64\]"),
        (weight[0], x, r"weight must be .* got float32 \[64\]"),
        (torch.randn(64, 5).mT, x, r"side by side \(stride 1\), got stride 5"),
        (weight.to("meta"), x, "weight and x must be on the CPU, got meta and cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            matvec.matvec(wrong, given)
    data = torch.zeros(2, 19, dtype=torch.uint8)
    for make, message in (
        (lambda: Q4Blocks(data, "q4_1"), "whole blocks of 20 bytes, got 19 bytes"),
        (lambda: Q4Blocks(data, "q5_0"), "kind must be one of q4_0, q4_1, got 'q5_0'"),
        (lambda: Q4Blocks(data.float(), "q4_0"), "data must be uint8"),
        (lambda: Q4Blocks.of(torch.randn(2, 33)), "columns divisible by 32"),
        (lambda: Int8Rows(data, torch.ones(2)), "values must be int8"),
        (lambda: Int8Rows(data.to(torch.int8), torch.ones(3)), r"scale must be float32 \[2\], got float32 \[3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@needs_compiler
@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q8_0"])
def test_blocks_widened_are_those_of_the_gguf_package(kind: str) -> None:
    import gguf

    weight = weight_of(kind, 7, 544)
    assert isinstance(weight, (Q4Blocks, Q8Blocks))
    expected = torch.from_numpy(gguf.dequantize(weight.data.numpy(), gguf.GGMLQuantizationType[kind.upper()]))
    torch.testing.assert_close(weight.widened(), expected, rtol=0, atol=0)
    # a product and a sum may be rounded once together
    torch.testing.assert_close(matvec.widened(weight), expected, rtol=0, atol=2.0**-24 * 16)
