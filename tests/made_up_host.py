"""A host of made-up rates and a small flush buffer, for tests that are not about the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from attention.timing import speed

CALIBRATION = speed.Calibration(
    "cpu", "test", 1, 1e9, 1e9, {"float32": 1e9, "bfloat16": 1e9, "float16": 1e9}, 2**16, 2**20, ()
)


def calibrated(monkeypatch: pytest.MonkeyPatch, calibration: speed.Calibration) -> None:
    """Make the program take the host as measured already, with this calibration."""
    monkeypatch.setattr(speed, "calibrate", lambda device="cpu", *, again=False: calibration)


@contextmanager
def made_up_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calibrated(monkeypatch, CALIBRATION)
    monkeypatch.setattr(speed, "flush_bytes", lambda device: 2**16)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
