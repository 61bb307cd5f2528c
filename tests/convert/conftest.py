"""Fixtures for the tests of the conversion."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # with such small sizes some configurations warn about their RoPE settings
    logger = logging.getLogger("transformers")
    before, logger.level = logger.level, logging.ERROR
    yield
    logger.level = before
