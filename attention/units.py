"""Numbers as people read them: three significant digits, thousands separated, a space before the unit.

GiB (2^30) and GB (10^9) are never mixed up: sizes of memory are shown in binary units, bandwidths and
figures of accelerators' data sheets in decimal units.
"""

from __future__ import annotations

from math import floor, isfinite, log10

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def significant(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, thousands separated: 16.0, 1,230, 0.0457."""
    if not isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    # rounding up can add a digit: 9.996 -> 10.00
    digits_shown = sum(c.isdigit() for c in text.lstrip("-0.").replace(",", ""))
    return f"{value:,.{decimals - 1}f}" if decimals and digits_shown > digits else text


def binary_bytes(n: float) -> str:
    """Bytes in binary units: 131072 -> "128 KiB", 17179869184 -> "16.0 GiB"."""
    step = 0
    value = float(n)
    while abs(value) >= 999.5 and step < len(_BINARY) - 1:
        value /= 1024
        step += 1
    if step == 0:
        return f"{n:,.0f} B"
    return f"{significant(value)} {_BINARY[step]}"


def decimal(value: float, unit: str) -> str:
    """A quantity in decimal units: decimal(3.35e12, "B/s") -> "3.35 TB/s"."""
    step = 0
    while abs(value) >= 999.5 and step < len(_DECIMAL) - 1:
        value /= 1000
        step += 1
    return f"{significant(value)} {_DECIMAL[step]}{unit}"


def parameters(n: int | None) -> str:
    """A parameter count: 8030261248 -> "8.03 B"."""
    if n is None:
        return "not published"
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if n >= limit:
            return f"{significant(n / limit)} {unit}"
    return f"{n:,}"


def tokens(n: int) -> str:
    """A context length as people read it: 131072 -> "128k", 1000 -> "1,000"."""
    if n >= 2**20 and n % 2**20 == 0:
        return f"{n // 2**20}M"
    if n >= 1024 and n % 1024 == 0 and n < 2**20:
        return f"{n // 1024}k"
    return f"{n:,}"


def counted(n: int, thing: str) -> str:
    """A number of things: counted(1, "token") -> "1 token", counted(8192, "token") -> "8,192 tokens"."""
    return f"{n:,} {plural(n, thing)}"


def plural(n: int, thing: str) -> str:
    """`thing` in the form that follows the number n: "K/V head" or "K/V heads", "pass" or "passes"."""
    if n == 1:
        return thing
    return f"{thing}es" if thing.endswith(("s", "x", "ch", "sh")) else f"{thing}s"


def held(n: int) -> str:
    """A context with its unit, as people read it: "1 token", "8k tokens"."""
    return f"{tokens(n)} {plural(n, 'token')}"


def duration(seconds: float) -> str:
    """A time: 0.0123 -> "12.3 ms"."""
    if not isfinite(seconds):
        return "–"
    for limit, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(seconds) >= limit * 0.9995:
            return f"{significant(seconds / limit)} {unit}"
    return f"{significant(seconds / 1e-9)} ns" if seconds else "0 s"


def ratio(value: float) -> str:
    """A factor: 4.0 -> "4.00×"."""
    return f"{significant(value)}×"
