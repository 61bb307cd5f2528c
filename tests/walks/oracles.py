"""Conditions that must hold after every step of a walk. An oracle yields (kind, words) for each fault that it finds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from tests.walks.messages import VALUES, differences
from tests.walks.tab import Tab

BROKEN = ("Traceback (most recent call last)", "this part of the page failed")
SIZE = r"([\d.,]+ (?:[KMGTPEZY]i)?B)"
MIRRORS = {"context_exact": "context", "context_pick": "context", "r_batch_pick": "batch"}
"""Control -> the address key whose value it shows."""


def sound(tab: Tab) -> Iterator[tuple[str, str]]:
    """The page has no error box, and nothing was raised."""
    for part in tab.main:
        if part.kind == "exception":
            yield "error box", str(part.proto.message)[:300]
    text = tab.text()
    for words in BROKEN:
        if words in text:
            yield "error box", words
    for line in tab.log.take():
        yield "log", line[-1500:]


def controls_read_what_is_used(tab: Tab) -> Iterator[tuple[str, str]]:
    """A control shows the value with which the server computes, or would show it once its popover is open."""
    query = parse_qs(tab.query, keep_blank_values=True)
    for part in tab.main:
        if part.kind not in VALUES or part.kind == "file_uploader":
            continue
        shown, known = tab.shown(part), tab.known(part)
        if shown != known:
            yield "control", f"{part.name} reads {shown!r}, used is {known!r}"
        if (key := MIRRORS.get(part.name)) and key in query and part.kind == "number_input":
            said = float(query[key][-1])
            if shown != said:
                yield "control", f"{part.name} reads {shown!r}, the address says {key}={said:g}"


def fresh_is_the_same(tab: Tab) -> Iterator[tuple[str, str]]:
    """Another visitor who opens the address sees the same words and numbers."""
    if any(part.kind == "text_input" and tab.shown(part) for part in tab.main):
        # a typed text that was refused stays only for the visitor who typed it
        return
    other = Tab(tab.page, tab.at.query_params)
    yield from sound(other)
    found = list(differences(tab.words(), other.words()))
    if found:
        yield "address", f"{tab.query[:300]} opened anew differs: " + "; ".join(found[:4])


CACHE = {
    "app.py": re.compile(rf"KV cache of (?P<m>.+) at .+ tokens.*: {SIZE} \("),
    "pages/kv_cache.py": re.compile(rf"Cache of .+ at .+: {SIZE} \("),
    "pages/spectrum.py": re.compile(rf"KV cache, [\d,]+ tokens.*: {SIZE} \("),
}
"""Page -> pattern of the text in :meth:`Tab.text` that gives the bytes of the model's own cache. The bytes that a step
reads are another quantity, because recurrent states are also written back."""
WEIGHTS = {
    "pages/kv_cache.py": (re.compile(rf"weights {SIZE}, [\d.,]+ ?[KMBT]? parameters"), "k_weights", ""),
    "pages/fit.py": (re.compile(rf'"label": "weights", "text": "{SIZE}"'), "f_weights", "f_count"),
}
"""Page -> (pattern of the text with the bytes of the weights, key of their format, key of the number of parts)."""
LOAD = ("model", "context", "batch", "kv", "layers", "heads", "kv_heads", "head_dim", "window", "config")
"""The address keys on which a model's cache depends."""


class Ledger:
    """Every quantity that a page has shown, by the keys on which it depends; all pages must show the same value."""

    def __init__(self) -> None:
        self.told: dict[tuple[Any, ...], tuple[str, str]] = {}

    def check(self, tab: Tab) -> Iterator[tuple[str, str]]:
        """Note the quantities of this page; yields a fault if another page showed another value."""
        query = parse_qs(tab.query, keep_blank_values=True)
        load = tuple(query.get(key, [""])[-1] for key in LOAD)
        text = tab.text()
        own = query.get("spec_kv", ["0"])[-1] == "0"
        found: list[tuple[tuple[Any, ...], str]] = []
        if own and (hit := CACHE.get(tab.page, re.compile("$^")).search(text)):
            found.append((("cache", *load), hit.groups()[-1]))
        if tab.page in WEIGHTS:
            says, dtype, divided = WEIGHTS[tab.page]
            model = [query.get(key, [""])[-1] for key in LOAD if key not in ("context", "batch", "kv")]
            if (hit := says.search(text)) and query.get(divided, ["1"])[-1] == "1":
                stated = query.get("parameters", [""])[-1]
                found.append((("weights", *model, query.get(dtype, ["bf16"])[-1], stated), hit.groups()[-1]))
        for key, size in found:
            page, before = self.told.setdefault(key, (tab.page, size))
            if before != size:
                yield "quantity", f"{key[0]} of {' '.join(key[1:5])[:120]}: {size} here, {before} on {page}"
