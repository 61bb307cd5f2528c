"""What fits: by hand on an accelerator of round numbers, and against a search of every answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.catalog.published import Accelerator, accelerator, model
from attention.formats import weight_bytes
from attention.serving.fit import Setup, budget, fits, grid, largest_batch, largest_context, smallest_count
from attention.spec import ModelSpec, attention_layer, uniform_spec


def device(memory: int) -> Accelerator:
    return Accelerator("toy", "toy", "none", memory, 1e9, {"bf16": 1e12}, "made up", "2026-11-23")


# one token's state: 2 layers x 4 heads x (3 + 3) x 2 bytes = 96
SPEC = ModelSpec("m", (attention_layer(8, 4, 3),) * 2, "bf16", n_parameters=1009)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("fp32", 4036), ("bf16", 2018), ("int8", 1009), ("int4", 505), ("int4-g128", 521), ("mxfp4", 537)],
)
def test_weights_to_the_byte(dtype: str, size: int) -> None:
    assert weight_bytes(1009, dtype) == size


def test_the_budget_by_hand() -> None:
    setup = Setup(device(10_000), reserve_bytes=500, page_tokens=1)
    assert budget(SPEC, setup) == (10_000, 9_000, 500, 2018, 6482)
    assert largest_context(SPEC, setup) == 6482 // 96
    assert largest_batch(SPEC, setup, 7) == 6482 // (96 * 7)
    assert largest_context(SPEC, Setup(device(10_000), reserve_bytes=500), 1) == 6482 // 96 // 16 * 16


def test_too_small_is_zero_and_windows_have_no_limit() -> None:
    small = Setup(device(2_500), reserve_bytes=500)
    assert budget(SPEC, small).state_room_bytes < 0
    assert (largest_context(SPEC, small), largest_batch(SPEC, small, 1)) == (0, 0)
    window = ModelSpec("m", (attention_layer(8, 4, 3, window=5),), "bf16", n_parameters=1009)
    assert largest_context(window, Setup(device(10_000), reserve_bytes=0)) is None


def test_the_fewest_accelerators() -> None:
    setup = Setup(device(2_000), reserve_bytes=0, page_tokens=1)
    # 100 tokens are 9,600 bytes of states and 2,018 of weights; 1,800 of each device may be used
    assert smallest_count(SPEC, setup, 1, 1) == 2
    # K/V heads stop dividing at 4, so 8 ranks keep 2,400 each and it never fits
    assert smallest_count(SPEC, setup, 100, 1) is None
    assert smallest_count(SPEC, Setup(device(3_500), reserve_bytes=0, page_tokens=1), 100, 1) == 4
    odd = ModelSpec("m", (attention_layer(6, 6, 3),), "bf16", n_parameters=1009)
    tight = Setup(device(1_500), reserve_bytes=0, page_tokens=1)
    assert smallest_count(odd, tight, 40, 1, powers_of_two=False) == 6
    assert smallest_count(odd, tight, 20, 1, powers_of_two=False) == 3
    assert smallest_count(odd, tight, 20, 1) is None


def test_a_published_case() -> None:
    """Llama-3.1-8B in bf16 on 80 GB: 72 GB usable, 1 GiB reserve, 16.06 GB of weights, 131,072 bytes a token."""
    spec = model("meta-llama/Llama-3.1-8B").spec
    assert spec is not None
    setup = Setup(accelerator("h100-sxm"))
    left = 72_000_000_000 - 2**30 - 2 * 8_030_261_248
    assert budget(spec, setup).state_room_bytes == left
    assert largest_context(spec, setup) == left // 131_072 // 16 * 16
    assert largest_batch(spec, setup, 8192) == left // 2**30


def test_the_map_and_its_frontier() -> None:
    setup = Setup(device(10_000), reserve_bytes=500, page_tokens=1)
    result = grid(SPEC, setup, (1, 7, 60, 100), (1, 2, 11))
    assert result.usable_bytes == 9_000
    for row, batch in enumerate(result.batches):
        for column, context in enumerate(result.contexts):
            assert result.used_bytes[row][column] == 2018 + 500 + 96 * context * batch
            assert result.fits[row][column] == fits(SPEC, setup, context, batch)
    assert result.frontier == tuple(largest_batch(SPEC, setup, context) for context in result.contexts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be between 1 and 64, got 0"),
        ({"utilisation": 0.0}, "utilisation must be above 0 and at most 1, got 0.0"),
        ({"utilisation": float("nan")}, "utilisation must be above 0"),
        ({"reserve_bytes": -1}, "reserve_bytes must be between 0"),
        ({"weight_dtype": "int3"}, "weight_dtype must be one of fp32, .*got 'int3'"),
        ({"kv_dtype": "int3"}, "kv_dtype must be one of"),
        ({"window_pool": "?"}, "window_pool must be one of own, shared"),
    ],
)
def test_a_setup_checks_itself(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setup(device(10_000), **arguments)


def test_without_a_parameter_count_nothing_is_guessed() -> None:
    with pytest.raises(ValueError, match="n_parameters of typed sizes is not known"):
        budget(uniform_spec(1, 2, 1, 3), Setup(device(10_000)))


@given(
    st.integers(3_000, 10**6),
    st.integers(1, 20),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["bf16", "int4", "fp8-head", "q8_0"]),
)
def test_answers_are_the_edge_of_what_fits(memory: int, number: int, count: int, kv_dtype: str) -> None:
    setup = Setup(device(memory), count, kv_dtype=kv_dtype, reserve_bytes=97)
    context = largest_context(SPEC, setup, number)
    assert context is not None
    assert context == 0 or fits(SPEC, setup, context, number)
    assert not fits(SPEC, setup, context + 1, number)
    batch = largest_batch(SPEC, setup, number)
    assert batch == 0 or fits(SPEC, setup, number, batch)
    assert not fits(SPEC, setup, number, batch + 1)
