import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.formats import FORMATS, WEIGHT_BITS, cache_format, weight_bytes
from attention.spec import PositionState, Role


@pytest.mark.parametrize(
    ("name", "elements", "size"),
    [
        ("bf16", 7, 14),
        ("fp32", 7, 28),
        ("fp8", 7, 7),
        ("int4", 7, 4),  # 28 bits, whole bytes
        ("int8-g32", 64, 64 + 2 * 2),  # two groups, a 16-bit scale each
        ("int8-g32", 65, 65 + 3 * 2),  # the third group holds one element
        ("int4-g64", 128, 64 + 2 * (2 + 2)),  # scale and zero point
        ("q8_0", 32, 34),  # ggml's block_q8_0
        ("q8_0", 33, 68),  # whole blocks
        ("q5_1", 32, 24),  # a scale, a minimum, 32 fifth bits, 16 bytes of four
        ("q5_0", 32, 22),
        ("q5_0", 33, 44),
        ("q4_1", 64, 40),
        ("iq4_nl", 96, 54),
        ("q4_0", 64, 36),
        ("q4_0", 0, 0),
    ],
)
def test_bytes_of_a_row(name: str, elements: int, size: int) -> None:
    assert cache_format(name).row_bytes(elements) == size


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16),
        ("fp8", 8),
        ("int8-g128", 8.125),
        ("int4-g32", 5),
        ("q8_0", 8.5),
        ("q4_0", 4.5),
        ("q5_1", 6),
        ("q5_0", 5.5),
        ("q4_1", 5),
        ("iq4_nl", 4.5),
    ],
)
def test_effective_bits(name: str, bits: float) -> None:
    assert cache_format(name).bits_per_element == bits


def test_calibrated_scales_do_not_grow() -> None:
    state = PositionState(Role.KEY_VALUE, 7, 5, 5)
    latent = PositionState(Role.COMPRESSED, 1, 5, 0)
    assert cache_format("fp8-tensor").fixed_bytes(state) == 4 * 2
    assert cache_format("fp8-head").fixed_bytes(state) == 4 * 2 * 7
    assert cache_format("fp8-tensor").fixed_bytes(latent) == 4
    assert cache_format("fp8").fixed_bytes(state) == 0


@pytest.mark.parametrize("name", ["bf17", "", "BF16", None, ["bf16"]])
def test_an_unknown_format_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match=r"kv_dtype must be one of bf16, .*; got"):
        cache_format(name)


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 5000))
def test_a_row_is_never_smaller_than_its_effective_bits(name: str, elements: int) -> None:
    fmt = FORMATS[name]
    assert fmt.row_bytes(elements) * 8 >= elements * fmt.bits
    # whole groups make it exact
    whole = elements * (fmt.group_size or 8)
    assert fmt.row_bytes(whole) * 8 == whole * fmt.bits_per_element


@pytest.mark.parametrize(
    ("name", "size"),
    [("fp32", 4 * 33), ("bf16", 2 * 33), ("int8", 33), ("int4", 17), ("int4-g128", 18), ("mxfp4", 18)],
)
def test_weights_are_counted_in_whole_bytes(name: str, size: int) -> None:
    """33 weights of 4 bits and 33/128 of a 16-bit scale are 132 + 4.125 bits, with 33/32 of an 8-bit one 140.25."""
    assert weight_bytes(33, name) == size
    n = 2**50 - 27  # past what a float holds
    assert weight_bytes(n, name) == math.ceil(n * Fraction(WEIGHT_BITS[name]) / 8)
