"""The job that times kinds of cache: what it emits, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from attention.jobs import kinds as job
from attention.kernels.kinds import registry
from attention.kernels.kinds.case import KindCase, KindResult
from attention.timing import kinds, views
from attention.timing.kind_views import latest
from attention.timing.steadiness import STILL_TIMED
from tests.made_up_host import made_up_host

SMALL = {"kind": "full", "n_heads": 6, "n_kv_heads": 3, "head_dim": 16, "value_dim": 16, "context": 31}
SHAPES = [{**SMALL, "dtype": "float32"}, {**SMALL, "dtype": "float32", "q_len": 2}]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with made_up_host(monkeypatch):
        yield


def test_each_shape_is_timed_by_all_that_suit_it_first_once_then_in_turn() -> None:
    emitted: list[dict[str, Any]] = []
    summary = job.run({"cases": SHAPES, "seconds_per_case": 0.01}, emitted.append, lambda: False)
    results = [KindResult.from_json(row) for row in emitted if "kind" in row]
    suited = registry.suited(replace(KindCase.from_json(SHAPES[0]), device="cpu"))
    known = latest(results)
    assert [(r.case.implementation, r.case.q_len) for r in known] == [(name, n) for n in (1, 2) for name in suited]
    assert {r.unsteady for r in results[: len(known)]} == {STILL_TIMED}
    assert all(r.unsteady != STILL_TIMED and len(r.times_s) >= 5 and r.error is not None for r in known)
    assert emitted[-1]["progress"] == 1.0
    assert summary["calibration"]["name"] == "test"
    json.dumps([emitted, summary], allow_nan=False)
    steady = [replace(r, unsteady="") for r in known]
    assert views.faster(steady[0], steady[-1])
    assert views.faster(steady[0], replace(steady[-1], together=2)) is None


def suited_twice() -> list[str]:
    """Implementations of both shapes."""
    return [name for shape in SHAPES for name in registry.suited(replace(KindCase.from_json(shape), device="cpu"))]


def test_stopped_it_gives_what_it_has() -> None:
    emitted: list[dict[str, Any]] = []
    asked = iter([False] * len(suited_twice()) + [True] * 99)
    job.run({"cases": SHAPES, "seconds_per_case": 9}, emitted.append, lambda: next(asked))
    rows = [KindResult.from_json(row) for row in emitted if "kind" in row]
    assert {row.case.q_len for row in rows} == {1, 2}
    assert {(row.unsteady, len(row.times_s)) for row in rows} == {(STILL_TIMED, 1)}


def test_the_tensors_of_all_shapes_are_held_at_once() -> None:
    one, two = (job.estimate_bytes({"cases": cases}) for cases in (SHAPES[:1], SHAPES))
    held = KindCase.from_json(SHAPES[0]).cache_bytes
    assert one == kinds.memory_needed(replace(KindCase.from_json(SHAPES[0]), device="cpu"))
    assert two - one >= 2 * held


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({}, "cases must be a list of 1 to 40"),
        ({"cases": [SMALL] * 41}, "cases must be a list of 1 to 40"),
        ({"cases": [{**SMALL, "kind": "ring"}]}, "kind must be one of"),
        ({"cases": [SMALL], "seconds_per_case": 0}, "seconds_per_case must be above 0"),
        ({"cases": [{**SMALL, "dtype": "float32"}, SMALL]}, "one device and one dtype"),
    ],
)
def test_bad_payloads_are_refused_by_name(payload: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        job.run(payload, lambda row: None, lambda: False)
