"""Every run of these tests has its own settings, in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.torch_threads import torch_threads


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one state per process, but every run here has its own settings."""
    with torch_threads(1):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
