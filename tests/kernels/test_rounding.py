"""Rows rounded natively are those that the specification rounds, bit for bit, wherever they are put."""

from __future__ import annotations

import pytest
import torch

from attention.kernels.kinds import rounding, stored
from attention.llm.caches import ROUNDED, RoundedCache

NAMES = {value: key for key, value in ROUNDED.items()}
pytestmark = pytest.mark.skipif(
    rounding.unavailable("q8_0", torch.zeros(1)) is not None, reason="there is no C++ compiler"
)


def _rows() -> torch.Tensor:
    x = torch.randn(2, 3, 7, 96, generator=torch.Generator().manual_seed(3))
    x[0, 0, 0] = 0  # no scale
    x[0, 1, 1] *= 1e-9  # below float16
    x[1, 2, 2] *= 1e4
    x[1, 0, 3, 5] = -300.0  # one that is far from the others
    x[0, 2, 4] = 2.5  # all alike
    return x


@pytest.mark.parametrize("kind", rounding.KINDS)
def test_native_rows_are_the_specifications(kind: str) -> None:
    x = _rows()
    expected = stored.store(x, kind)
    cache = RoundedCache(2, 3, 11, 96, NAMES[kind], NAMES[kind])
    rounding.store_into(cache.k, 4, x)
    assert torch.equal(cache.k.data[:, :, 4:], expected.data)
    for own, theirs in ((cache.k.scale, expected.scale), (cache.k.zero, expected.zero)):
        if theirs is not None:
            assert own is not None
            assert torch.equal(own[:, :, 4:], theirs)


def test_rows_without_a_place_are_refused() -> None:
    cache = RoundedCache(2, 3, 11, 96, "q8_0", "q8_0")
    with pytest.raises(ValueError, match=r"x must be \[2, 3, at most 6, 96\], got \[2, 3, 7, 96\]"):
        rounding.store_into(cache.k, 5, _rows())
    assert rounding.unavailable("fp8-head", _rows()) is not None
    assert rounding.unavailable("q8_0", _rows().half()) is not None
