"""A load says what is wrong with it, once, and gives the same bytes as its numbers passed one by one."""

import pytest

from attention.memory.footprint import cache_bytes, cache_of
from attention.memory.load import MAX_BATCH, MAX_CONTEXT, Load
from attention.spec import uniform_spec


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 1, "bf16"), "context must be between 1 and 4,294,967,296, got 0"),
        ((MAX_CONTEXT + 1, 1, "bf16"), "context must be between"),
        ((1.5, 1, "bf16"), "context must be a whole number, got 1.5"),
        ((7, 0, "bf16"), "batch must be between 1 and 1,048,576, got 0"),
        ((7, MAX_BATCH + 1, "bf16"), "batch must be between"),
        ((7, 1, "fp7"), "kv_dtype must be one of .*bf16.*fp7"),
    ],
)
def test_what_is_out_of_range_is_told(values: tuple[int, int, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Load(*values)


def test_the_ends_of_the_range_are_accepted() -> None:
    assert Load(MAX_CONTEXT, MAX_BATCH).kv_dtype == "bf16"
    assert Load(1) == Load(1, 1, "bf16")


def test_bytes_hold_the_load_they_were_counted_for() -> None:
    spec, load = uniform_spec(3, 14, 7, 13), Load(101, 5, "fp8")
    cache = cache_of(spec, load)
    assert cache == cache_bytes(spec, 101, 5, "fp8")
    assert (cache.load, cache.context, cache.batch, cache.kv_dtype) == (load, 101, 5, "fp8")
