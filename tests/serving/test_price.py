"""The price of tokens, worked by hand."""

from __future__ import annotations

import pytest

from attention.serving.price import price_per_million


def test_the_price_of_a_million_tokens() -> None:
    # 4 cards at 1.80 an hour are 0.002 a second; at 100 tokens a second a million takes 10,000 s
    assert price_per_million(1.8, 4, 100) == pytest.approx(20)
    assert price_per_million(0, 4, 100) == 0
    with pytest.raises(ValueError, match="price_per_hour must be at least 0"):
        price_per_million(-1, 1, 1)
    with pytest.raises(ValueError, match="tokens_per_s must be above 0"):
        price_per_million(1, 1, 0)
