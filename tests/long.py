"""The long forms, which ``make soak`` runs and ``make test`` leaves out: ``HEADSHARE_SOAK=1``."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

SOAK = os.environ.get("HEADSHARE_SOAK") == "1"

T = TypeVar("T")


def long(why: str) -> pytest.MarkDecorator:
    """Marks a test that only the long form runs; `why` names what the short form has of its kind."""
    return pytest.mark.skipif(not SOAK, reason=f"the long form has it; the short one: {why}")


def short(whole: T, part: T) -> T:
    """All cases in the long form; in the short form only those that differ in kind."""
    return whole if SOAK else part
