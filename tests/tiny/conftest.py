"""Fixtures for the tests of the byte models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attention.tiny import uptraining
from attention.tiny.model import TinyLM


@pytest.fixture(scope="module")
def mha() -> TinyLM:
    return uptraining.source_model()


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return uptraining.text()[1]


@pytest.fixture
def four_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the lab's losses cheap: one training window per step, four held-out windows."""
    stream, rows = uptraining.text()
    monkeypatch.setattr(uptraining, "text", lambda: (stream, rows[:4]))
    recipe = replace(uptraining.original(), batch=1)
    monkeypatch.setattr(uptraining, "original", lambda: recipe)
