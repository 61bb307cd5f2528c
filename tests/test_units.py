import pytest

from attention import units


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (16, "16.0"), (1234.5, "1,234"), (0.04567, "0.0457"), (9.996, "10.0"), (-2.5, "-2.50")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert units.significant(value) == text


def test_what_is_not_a_number_is_a_dash() -> None:
    assert units.significant(float("nan")) == "–"
    assert units.duration(float("inf")) == "–"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (131072, "128 KiB"),
        (17179869184, "16.0 GiB"),
        (11173625856, "10.4 GiB"),
        (2**60, "1.00 EiB"),
    ],
)
def test_sizes_are_binary(n: int, text: str) -> None:
    assert units.binary_bytes(n) == text


def test_bandwidths_are_decimal() -> None:
    assert units.decimal(3.35e12, "B/s") == "3.35 TB/s"
    assert units.decimal(989.5e12, "FLOP/s") == "990 TFLOP/s"


@pytest.mark.parametrize(
    ("n", "text"),
    [(None, "not published"), (8030261248, "8.03 B"), (124439808, "124 M"), (1026408209408, "1.03 T"), (7, "7")],
)
def test_parameters(n: int | None, text: str) -> None:
    assert units.parameters(n) == text


@pytest.mark.parametrize(("n", "text"), [(1, "1"), (1000, "1,000"), (8192, "8k"), (131072, "128k"), (2**20, "1M")])
def test_tokens(n: int, text: str) -> None:
    assert units.tokens(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.50 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs"), (7e-9, "7.00 ns"), (0, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_a_factor() -> None:
    assert units.ratio(4) == "4.00×"


def test_a_number_of_things() -> None:
    assert [units.counted(n, "K/V head") for n in (0, 1, 1024)] == ["0 K/V heads", "1 K/V head", "1,024 K/V heads"]
    assert [units.plural(2, thing) for thing in ("pass", "box", "batch", "flash", "switch head")] == [
        "passes", "boxes", "batches", "flashes", "switch heads",
    ]  # fmt: skip
    assert [units.plural(1, thing) for thing in ("pass", "batch")] == ["pass", "batch"]
