"""The keys of a page's address: each with its default, the values it accepts, and the way its value is written.

Values from an address are parsed only here, by plain rules for strings and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from attention.formats import FORMATS
from attention.memory.load import MAX_BATCH, MAX_CONTEXT
from attention.spec import MAX_SIZE

VERSION = "1"
"""Version of the address format. Defaults are part of the format, so a changed default needs a new version."""

TYPED = "custom"
"""Value of the key ``model`` for typed sizes."""
PASTED = "config"
"""Value of the key ``model`` for a pasted config.json."""
DEFAULT_MODEL = "meta-llama/Llama-3.1-8B"


@dataclass(frozen=True, slots=True)
class Param:
    """One key of the address.

    Attributes:
        key: name in the address and in the session's state.
        default: value if the address does not have the key.
        parse: turns text of the address into a value; raises ValueError for text that it does not accept.
        accepted: the accepted values, in words for the user.
        write: turns a value into text.
        always: the key is written even with its default value.
        many: the value is a list; the key repeats in the address.
        per_model: the value goes back to its default when the user picks another model.
        kept: the value belongs to the reader: an address without this key does not change it.
    """

    key: str
    default: Any
    parse: Callable[[str], Any]
    accepted: str
    write: Callable[[Any], str] = str
    always: bool = False
    many: bool = False
    per_model: bool = False
    kept: bool = False


def integer(key: str, default: int, minimum: int, maximum: int, **options: Any) -> Param:
    """A whole number in [minimum, maximum], such as ``t_repeats=20``."""

    def parse(text: str) -> int:
        # int() would also accept "١٢", "1_0" and " 1"
        if not re.fullmatch(r"\d{1,15}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError(text)
        return int(text)

    return Param(key, default, parse, f"a whole number from {minimum:,} to {maximum:,}", **options)


def choice(key: str, options: Sequence[Any], default: Any, **settings: Any) -> Param:
    """One of `options`, written with ``str``."""
    by_text = {str(option): option for option in options}
    assert default in options, (key, default)

    def parse(text: str) -> Any:
        if text not in by_text:
            raise ValueError(text)
        return by_text[text]

    return Param(key, default, parse, _listed(by_text), **settings)


def choices(key: str, options: Sequence[Any], default: Sequence[Any], **settings: Any) -> Param:
    """A list of some of `options`; the key repeats in the address."""
    one = choice(key, options, options[0])
    return Param(key, list(default), one.parse, one.accepted, many=True, **settings)


def number(key: str, default: float, minimum: float, maximum: float, **settings: Any) -> Param:
    """A decimal number in [minimum, maximum]."""

    def parse(text: str) -> float:
        value = float(text) if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text, re.ASCII) else None
        if value is None or not minimum <= value <= maximum:
            raise ValueError(text)
        return value

    return Param(key, default, parse, f"a number from {minimum:g} to {maximum:g}", lambda v: f"{v:.12g}", **settings)


def text(key: str, default: str, pattern: str, accepted: str, **settings: Any) -> Param:
    """Text that matches `pattern` as a whole."""

    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(value)
        return value

    return Param(key, default, parse, accepted, **settings)


def token(key: str) -> Param:
    """The token of a kept run, see ``jobs.panel``; an empty string means none."""
    return text(key, "", r"[A-Za-z0-9_-]{1,64}|", "the token of a kept run")


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else f"one of {shown}"


def _parse_model(name: str) -> str:
    if name in (TYPED, PASTED):
        return name
    from attention.catalog import published

    return published.model(name[:200]).id


def takes_sizes(model: str) -> bool:
    """Whether the visitor types the sizes of `model`: it is TYPED, or its makers publish no sizes."""
    if model in (TYPED, PASTED):
        return model == TYPED
    from attention.catalog import published

    return published.model(model).spec is None


MODEL = Param("model", DEFAULT_MODEL, _parse_model, f"a model of the catalogue, {TYPED} or {PASTED}", always=True)
CONTEXT = integer("context", 8192, 1, MAX_CONTEXT, always=True)
BATCH = integer("batch", 1, 1, MAX_BATCH, always=True)
KV = choice("kv", list(FORMATS), "bf16", always=True)
SIZES = (
    integer("layers", 32, 1, 10_000),
    integer("heads", 32, 1, 1024),
    integer("kv_heads", 8, 1, 1024),
    integer("head_dim", 128, 1, 2**20),
    integer("window", 0, 0, MAX_SIZE),
)
"""Typed sizes; window 0 means none."""
CONFIG = text("config", "", r"[A-Za-z0-9_-]{0,12000}", "a configuration that this site wrote into the address")

PARAMETERS = number("parameters", 0.0, 0, 100_000, per_model=True)
"""Parameters in 10⁹ as the visitor states them; 0 means not stated."""

PRESENT = choice("present", ["false", "true"], "false")
"""Whether pages are shown for a lecture: large, without the list of pages and the list of words."""

SHARED = (MODEL, CONTEXT, BATCH, KV, *SIZES, CONFIG, PARAMETERS, PRESENT)
"""Keys that every page understands, so that they mean the same on all pages."""
