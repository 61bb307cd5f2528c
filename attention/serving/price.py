"""The least price of tokens."""

from __future__ import annotations


def price_per_million(price_per_hour: float, count: int, tokens_per_s: float) -> float:
    """The price of a million tokens.

    Args:
        price_per_hour: price of one accelerator for an hour, in any currency; the result has the same currency.
        count: accelerators; tokens_per_s: tokens per second of all of them together.

    Raises:
        ValueError: a price below 0, or a rate that is not above 0.
    """
    if price_per_hour < 0:
        raise ValueError(f"price_per_hour must be at least 0, got {price_per_hour!r}")
    if tokens_per_s <= 0:
        raise ValueError(f"tokens_per_s must be above 0, got {tokens_per_s!r}")
    return price_per_hour * count / 3600 / tokens_per_s * 1e6
