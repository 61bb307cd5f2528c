"""What is measured of the machine is finite, measured once, and the best of some runs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from attention.timing import speed


def test_calibration_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "calibrations", {})
    monkeypatch.setattr(speed, "flush_bytes", lambda device: 2**20)
    monkeypatch.setattr(speed, "matmul_rate", lambda name, device: speed.matmul_flops(name, device, 64, repeats=1))
    first = speed.calibrate("cpu")
    assert speed.calibrate("cpu") is first
    assert speed.calibrate("cpu", again=True) is not first
    assert first.threads == torch.get_num_threads()
    assert set(first.flops_per_s) == {"float32", "bfloat16", "float16"}
    for rate in (first.read_bytes_per_s, first.copy_bytes_per_s, *first.flops_per_s.values()):
        # not as slow as a machine of the sixties, and not faster than any that exists
        assert 1e3 < rate < 1e18
    json.dumps(first.to_json(), allow_nan=False)


def test_the_shortest_of_some_runs_counts_and_the_first_do_not() -> None:
    clock = iter([0.0, 10.0, 20.0, 27.0, 30.0, 33.0, 40.0, 45.0])
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        # two calls to warm up, whose end is not timed; then 7, 3 and 5
        assert speed.best_time(lambda: calls.append(1), "cpu", repeats=3) == 3.0
    assert len(calls) == 5


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'tpu'"):
        speed.calibrate("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            speed.calibrate("cuda")
