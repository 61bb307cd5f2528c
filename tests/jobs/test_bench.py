"""The jobs that measure: what they emit, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from attention.jobs import bench as job
from attention.jobs import calibrate as calibrate_job
from attention.kernels.case import Result
from tests.made_up_host import made_up_host


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with made_up_host(monkeypatch):
        yield


def run_job(payload: dict[str, Any]) -> tuple[list[dict], dict]:
    emitted: list[dict] = []
    return emitted, job.run(payload, emitted.append, lambda: False)


def test_the_job_emits_results_and_describes_the_host() -> None:
    payload = {"cases": [{"implementation": "folded_sdpa", "context": 31, "n_heads": 4, "n_kv_heads": 2}]}
    emitted, summary = run_job({**payload, "seconds_per_case": 0.01})
    timed = [e for e in emitted if "implementation" in e]
    assert [Result.from_json(e).case.context for e in timed] == [31, 31]
    assert [e["repeats"] > 1 for e in timed] == [False, True]
    assert summary["host"]["cores"] >= 1
    assert summary["calibration"]["name"] == "test"
    json.dumps([emitted, summary], allow_nan=False)
    assert calibrate_job.run({}, emitted.append, lambda: False)["calibration"] == summary["calibration"]


@pytest.mark.parametrize("payload", [{}, {"cases": []}, {"cases": "all"}, {"cases": [{}] * 501}, {"cases": [7]}])
def test_the_job_refuses_bad_payloads(payload: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        run_job(payload)
