"""Timings are checked, interleaved, bounded and can be stopped. No test here asserts how fast anything is."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from attention.kernels import plain, registry
from attention.kernels.case import (
    Case,
    Result,
    case_bytes,
    case_flops,
    check_bytes,
)
from attention.kernels.registry import Implementation
from attention.timing import benchmark, inputs, speed
from attention.timing.pace import Clock, Pace
from attention.timing.steadiness import MIN_REPEATS
from tests.made_up_host import CALIBRATION, made_up_host

SMALL = Case("folded_matmul", 6, 3, 10, 101, 2, "float32", "cpu")
LARGER = replace(SMALL, context=211)
"""Its K/V are larger than the flush buffer of these tests, so no other layer is computed before it."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with made_up_host(monkeypatch):
        yield


def times(cases: list[Case], **options: Any) -> list[Result]:
    return list(benchmark.run_cases(cases, seconds_per_case=0.01, **options))


def test_a_timing_is_consistent() -> None:
    (result,) = times([SMALL])
    assert result.case == Case("folded_matmul", 6, 3, 10, 101, 2, "float32", "cpu")
    # K and V: 2 · batch · heads · context · head_dim · 4 bytes; query and result: 2 · batch · heads · head_dim · 4
    assert result.case.cache_bytes == 2 * 2 * 3 * 101 * 10 * 4 == 48_480
    assert case_bytes(SMALL) == 48_480 + 2 * 2 * 6 * 10 * 4 == 49_440
    # two products of 2 · batch · heads · head_dim · context operations
    assert case_flops(SMALL) == 2 * 2 * 2 * 6 * 10 * 101 == 48_480
    assert result.median_s is not None
    assert result.median_s > 0
    assert result.iqr_s is not None
    assert result.iqr_s >= 0
    assert result.bytes_per_s == pytest.approx(49_440 / result.median_s)
    assert result.read_bytes_per_s
    assert result.flops_per_s
    assert result.floor_s
    assert result.floor_s == pytest.approx(max(49_440 / result.read_bytes_per_s, 48_480 / result.flops_per_s))
    assert result.times_floor == pytest.approx(result.median_s / result.floor_s)
    assert result.error is not None
    assert 0 < result.error < (result.tolerance or 0)
    assert result.repeats >= MIN_REPEATS
    assert "would fit the last-level cache" in result.note
    assert Result.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_causal_prefill_counts_half_the_square() -> None:
    case = replace(SMALL, implementation="enable_gqa", phase="prefill", context=7)
    assert case_flops(case) == 4 * 2 * 6 * 10 * (7 + 6 + 5 + 4 + 3 + 2 + 1)
    assert case_bytes(case) == 2 * 2 * 3 * 7 * 10 * 4 + 2 * 2 * 6 * 7 * 10 * 4
    (result,) = times([case])
    assert result.case.phase == "prefill"
    assert result.median_s


def spy(log: list[str], name: str) -> Implementation:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        log.append(name)
        return plain.folded_matmul(q, k, v)

    return Implementation(name, name, "", attend)


def test_implementations_of_a_shape_take_turns_in_changing_order() -> None:
    log: list[str] = []
    extra = {name: spy(log, name) for name in "abc"}
    results = times([replace(LARGER, implementation=name) for name in "abc"], extra=extra)
    assert [r.case.implementation for r in results] == ["a", "b", "c"]
    # each is checked and warmed up, then all take turns, forth and back
    assert "".join(log[:6]) == "aabbcc"
    assert "".join(log[6:18]) == "abccbaabccba"


def test_numbers_of_kv_heads_take_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen.append(k.shape[1])
        return plain.folded_matmul(q, k, v)

    extra = {"a": Implementation("a", "a", "", attend)}
    cases = [replace(LARGER, implementation="a", n_kv_heads=n, context=509) for n in (6, 3, 1)]
    results = times(cases, extra=extra)
    assert seen[6:18] == [6, 3, 1, 1, 3, 6, 6, 3, 1, 1, 3, 6]
    assert {r.together for r in results} == {1}
    assert len({len(r.times_s) for r in results}) == 1
    # if they do not fit into the memory together, each is timed alone
    seen.clear()
    monkeypatch.setattr(benchmark, "memory_needed", lambda case, impl=None: 1)
    alone = times(cases, extra=extra, memory_bytes=5_000)
    assert [r.together for r in alone] == [1, 2, 3]
    assert seen == sorted(seen, reverse=True)


def test_what_waits_for_a_compiler_is_prepared_last() -> None:
    log: list[str] = []
    extra = {"slow": replace(spy(log, "slow"), compiled=True), "plain": spy(log, "plain")}
    stream = benchmark.run_cases(
        [replace(LARGER, implementation=name) for name in extra], seconds_per_case=0.01, extra=extra, provisional=True
    )
    first = next(stream)
    assert (first.case.implementation, first.repeats, first.unsteady) == ("plain", 1, "still being timed")
    assert "slow" not in log
    known = list(stream)
    assert [r.case.implementation for r in known if r.repeats > 1][-2:] == ["slow", "plain"]


def test_no_time_lies_below_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read rate measured beside it is made ten thousand times too slow. The floor then follows the rate that the
    step itself reached."""
    time_one = Clock.time
    read_once = speed.read_once

    def slow_reading(clock: Clock, run: Any) -> float:
        reads.clear()
        taken = time_one(clock, run)
        return taken * 1e4 if reads else taken

    def counted_reading(buffer: torch.Tensor, way: str) -> torch.Tensor:
        reads.append(1)
        return read_once(buffer)

    reads: list[int] = []
    monkeypatch.setattr(speed, "read_once", counted_reading)
    monkeypatch.setattr(Clock, "time", slow_reading)
    results = times([replace(LARGER, n_kv_heads=n) for n in (6, 1)])
    assert all(r.times_floor is not None and r.times_floor >= 1 for r in results)
    assert any("a step read faster than the reading beside it" in r.note for r in results)


def test_shapes_come_one_after_another_and_stream() -> None:
    log: list[str] = []
    extra = {name: spy(log, name) for name in "ab"}
    cases = [replace(SMALL, implementation=name, context=context) for name in "ab" for context in (11, 13)]
    stream = benchmark.run_cases(cases, seconds_per_case=0.01, extra=extra)
    first = next(stream)
    assert (first.case.implementation, first.case.context) == ("a", 11)
    seen = len(log)
    assert [(r.case.implementation, r.case.context) for r in itertools.islice(stream, 1)] == [("b", 11)]
    assert len(log) == seen
    assert [(r.case.implementation, r.case.context) for r in stream] == [("a", 13), ("b", 13)]
    assert len(log) > seen


def test_the_memory_is_read_before_every_timed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    read_once = speed.read_once

    def reading(buffer: torch.Tensor, way: str) -> torch.Tensor:
        log.append("flush")
        return read_once(buffer, way)

    monkeypatch.setattr(speed, "read_once", reading)
    times([replace(LARGER, implementation="a")], extra={"a": spy(log, "a")})
    assert log[0] == "a"
    assert log[1:] == ["flush", "a"] * (len(log[1:]) // 2)


def test_a_small_layer_is_timed_after_another_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    read_from: list[int] = []
    timed: list[int] = []
    time_one = Clock.time

    def timing(clock: Clock, run: Any) -> float:
        before = len(read_from)
        taken = time_one(clock, run)
        timed.extend(read_from[before:])
        return taken

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        read_from.append(k.data_ptr())
        return plain.folded_matmul(q, k, v)

    monkeypatch.setattr(Clock, "time", timing)
    times([replace(SMALL, implementation="a")], extra={"a": Implementation("a", "a", "", attend)})
    layer, before = read_from[0], read_from[1]
    assert before != layer
    # checked, then timed after the other layer
    assert read_from[1:] == [before, layer] * (len(read_from[1:]) // 2)
    assert set(timed) == {layer}


def test_what_cannot_be_multiplied_is_held_against_float32() -> None:
    rates = {"float32": 1e9, "bfloat16": 2e9, "float16": 1e6}
    made = {dtype: Pace("cpu", dtype, replace(CALIBRATION, flops_per_s=rates)) for dtype in rates}
    assert [str(made[dtype].a.dtype) for dtype in rates] == ["torch.float32", "torch.bfloat16", "torch.float32"]


def test_a_wrong_implementation_is_not_timed() -> None:
    def wrong(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return plain.folded_matmul(q, k, v) * 1.001

    def broken(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.full_like(q, math.nan)

    def refusing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("No available kernel.\nmore lines")

    extra = {f.__name__: Implementation(f.__name__, "", "", f) for f in (wrong, broken, refusing)}
    by_name = {r.case.implementation: r for r in times([replace(SMALL, implementation=n) for n in extra], extra=extra)}
    assert all(r.median_s is None and r.bytes_per_s is None and r.repeats == 0 for r in by_name.values())
    assert by_name["wrong"].note == by_name["broken"].note == "not timed: wrong beyond the tolerance"
    assert by_name["wrong"].error is not None
    assert by_name["wrong"].error > (by_name["wrong"].tolerance or 0)
    assert by_name["broken"].error is None
    assert by_name["refusing"].note == "not run: No available kernel."


def test_inputs_are_fresh_and_no_two_rows_alike() -> None:
    first, second = (inputs.make_inputs(SMALL) for _ in range(2))
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    k = inputs.random_tensor((1, 1, 3 * 2**14, 64), torch.float32, "cpu")[0, 0]
    assert k[:, 0].unique().numel() > 0.99 * min(k.shape[0], 2**15)
    assert float(k.std()) == pytest.approx(1, abs=0.01)
    assert len({tuple(row) for row in k[:, :4].tolist()}) == k.shape[0]


def test_stop_is_asked_between_runs() -> None:
    asked = itertools.count()
    results = times([SMALL, replace(SMALL, context=103)], should_stop=lambda: next(asked) >= 4)
    assert results == []
    # nothing more is run after the answer: only the set and the whole run ask once more
    assert next(asked) == 7
    stream = benchmark.run_cases([SMALL, replace(SMALL, context=103)], seconds_per_case=0.01, should_stop=lambda: stop)
    stop = False
    assert next(stream).case.context == 101
    stop = True
    assert list(stream) == []


def test_what_does_not_fit_is_refused_before_anything_runs() -> None:
    log: list[str] = []
    huge = Case("repeat_sdpa", 32, 8, 128, 2**24, 64, "float32", "cpu")
    with pytest.raises(ValueError, match=r"context 16,777,216 at batch 64 needs .* TiB for repeat_sdpa .* may be used"):
        times([replace(SMALL, implementation="a"), huge], extra={"a": spy(log, "a")})
    with pytest.raises(ValueError, match="may be used here"):
        times([SMALL], memory_bytes=10_000)
    assert log == []


def test_memory_needed_counts_copies() -> None:
    plainly, copied = (
        inputs.memory_needed(replace(SMALL, implementation=n, context=99_991)) for n in ("folded_sdpa", "repeat_sdpa")
    )
    # group size 2: a repeated cache is twice the cache
    assert copied - plainly == 2 * replace(SMALL, context=99_991).cache_bytes
    check = check_bytes(6, 3, 10, 99_991)
    assert plainly > SMALL.cache_bytes + check
    # the layer computed before a small one takes the same memory again
    small = inputs.memory_needed(SMALL) - inputs.memory_needed(replace(SMALL, context=99_991))
    assert (
        small
        == 2 * SMALL.cache_bytes
        - replace(SMALL, context=99_991).cache_bytes
        + 12 * 2 * 6 * (101 - 99_991)
        + check_bytes(6, 3, 10, 101)
        - check
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("context", 0, "context must be between 1"),
        ("context", 10**12, "context must be between 1"),
        ("n_kv_heads", 5, "n_kv_heads must divide n_heads = 6, got 5"),
        ("head_dim", True, "head_dim must be a whole number"),
        ("batch", 1.5, "batch must be a whole number"),
        ("dtype", "int8", "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ("device", "tpu", "device must be one of auto, cpu, cuda, got 'tpu'"),
        ("phase", "training", "phase must be one of decode, prefill"),
        ("implementation", 7, "implementation must be a name"),
    ],
)
def test_bad_cases_are_refused(field: str, value: object, message: str) -> None:
    values = {**{f: getattr(SMALL, f) for f in SMALL.__dataclass_fields__}, field: value}
    with pytest.raises(ValueError, match=message):
        Case.from_json(values)


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(ValueError, match="unknown field 'contxt'"):
        Case.from_json({"implementation": "flex", "contxt": 3})
    with pytest.raises(ValueError, match="a timing must say its n_heads"):
        Result.from_json({"implementation": "flex"})
    no_object: Any = []
    with pytest.raises(ValueError, match="must be an object"):
        Result.from_json(no_object)


def test_all_that_run_here_are_timed_unless_named() -> None:
    case = Case("", 32, 8, 128, 4096, device="cpu")
    assert {"repeat_sdpa", "enable_gqa", "folded_sdpa", "folded_matmul"} <= set(registry.suited(case))
    assert not {"flash", "cudnn", "efficient"} & set(registry.suited(case))
