"""The host is described as the system knows it."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from attention.timing import host, other_load


def test_the_description_agrees_with_the_system() -> None:
    described = host.describe()
    assert described.memory_bytes == psutil.virtual_memory().total
    assert described.torch == torch.__version__.partition("+")[0] or described.torch == torch.__version__
    assert 1 <= described.threads <= (os.cpu_count() or 1)
    assert described.cpu
    assert json.loads(json.dumps(described.to_json()))["cores"] == described.cores


def test_processor_features_are_words_of_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    host.hardware.cache_clear()
    try:
        monkeypatch.setattr(
            host, "cpuinfo", lambda: {"model name": "Test 9000", "flags": "fpu avx2 avx512_bf16x avx512f fma3"}
        )
        described = host.describe()
        assert described.cpu == "Test 9000"
        assert described.features == ("avx2", "avx512f")
    finally:
        host.hardware.cache_clear()


@pytest.mark.parametrize(("quota", "threads"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 7), ("", 7)])
def test_a_control_group_limits_the_threads(quota: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "control_group", lambda name: quota if name == "cpu.max" else "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16)
    assert host.worker_threads() == threads


@pytest.mark.parametrize(
    ("limit", "used", "free"), [("1000", "300", 700), ("100", "300", 0), ("max", "300", 5000), ("9000", "1", 5000)]
)
def test_a_control_group_limits_the_memory(limit: str, used: str, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "control_group", {"memory.max": limit, "memory.current": used}.__getitem__)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    assert host.free_memory() == free


def test_other_load_counts_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Any] = [(100.0, 40.0, 10.0, 3.0), (200.0, 120.0, 30.0, 8.0)]
    monkeypatch.setattr(other_load, "processor_times", lambda: times.pop(0))
    # 100 ticks, 80 of them busy, 20 of these ours, 5 stolen
    assert other_load.OtherLoad().taken() == pytest.approx((0.6, 0.05))


def test_gpus_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert host.describe().gpus == ()


def test_a_gpu_as_its_driver_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def clock(handle: object, kind: int) -> int:
        if kind == pynvml.NVML_CLOCK_MEM:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 1980

    for name, value in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetName": lambda h: "Test GPU",
        "nvmlDeviceGetMemoryInfo": lambda h: SimpleNamespace(total=80 * 2**30),
        "nvmlDeviceGetClockInfo": clock,
        "nvmlDeviceGetMaxClockInfo": clock,
    }.items():
        monkeypatch.setattr(pynvml, name, value)
    assert host.describe().gpus == (host.Gpu("Test GPU", 80 * 2**30, 1980, None, 1980, None, "580.1"),)
