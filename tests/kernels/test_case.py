"""A result's row: it is flat, is read back, and is also read as earlier versions wrote it."""

import json
from pathlib import Path

import pytest

from attention.kernels.case import Case, Result
from attention.timing.runs import RECORDED
from tests.timing_samples import result

EARLIER = json.loads(
    """{"implementation": "split_matmul", "n_heads": 6, "n_kv_heads": 3, "head_dim": 10, "context": 101, "batch": 2,
    "dtype": "float32", "device": "cpu", "median_s": 0.002, "iqr_s": 0.0001, "cache_bytes": 48480, "bytes_per_s": 3e7,
    "error": 1e-7, "floor_s": 0.001, "times_floor": 2.0, "note": "", "phase": "prefill", "bound": "memory"}"""
)
"""A row of version 1.0, with the fields of that version in their order."""


def test_a_row_of_an_earlier_version_is_read() -> None:
    found = Result.from_json(EARLIER)
    assert found.case == Case("split_matmul", 6, 3, 10, 101, 2, "float32", "cpu", "prefill")
    assert (found.median_s, found.bound, found.times_s, found.unsteady) == (0.002, "memory", (), "")
    assert EARLIER.items() <= found.to_json().items()


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_rows_that_ship_are_written_as_they_were(path: Path) -> None:
    for row in json.loads(path.read_text())["results"]:
        again = json.loads(json.dumps(Result.from_json(row).to_json()))
        assert row.items() <= again.items()


def test_a_row_is_flat_and_read_again() -> None:
    made = result()
    row = made.to_json()
    assert "case" not in row
    assert (row["n_kv_heads"], row["cache_bytes"]) == (7, made.case.cache_bytes)
    assert Result.from_json(row) == made


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cache_bytes": 48_481}, "cache_bytes must be 48,480 for this shape, got 48481"),
        ({"dtype": []}, "dtype must be one of float32, bfloat16, float16, got \\[\\]"),
        ({"implementation": 7}, "implementation must be a name, got 7"),
        ({"case": {}}, "unknown field 'case'"),
    ],
)
def test_what_is_no_row_is_told(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Result.from_json(EARLIER | values)


@pytest.mark.parametrize("name", ["n_heads", "device", "median_s", "cache_bytes"])
def test_what_a_row_leaves_out_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=f"must say its {name}"):
        Result.from_json({key: value for key, value in EARLIER.items() if key != name})


def test_cases_that_differ_in_implementation_and_sharing_are_compared() -> None:
    case = Case("a", 6, 3, 10, 101, 2)
    assert case.compared_with == Case("b", 6, 1, 10, 101, 2).compared_with
    assert case.shape == Case("b", 6, 3, 10, 101, 2).shape != Case("a", 6, 1, 10, 101, 2).shape
    for other in (Case("a", 12, 3, 10, 101, 2), Case("a", 6, 3, 10, 103, 2), Case("a", 6, 3, 10, 101, 2, "bfloat16")):
        assert case.compared_with != other.compared_with
