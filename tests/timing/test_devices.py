"""Which device is timed, and what is said of an accelerator that is not."""

from __future__ import annotations

import pytest
import torch

from attention.timing import inputs


@pytest.mark.parametrize("kind", ["mps", "xpu", "mtia"])
def test_an_accelerator_that_is_not_timed_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.accelerator itself is replaced: no such device is at hand."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind))
    assert inputs.resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match=rf"no CUDA device that torch can use; its {kind} device is not timed \("):
        inputs.resolve_device("cuda")
