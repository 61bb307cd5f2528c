"""Text from outside (a run's machine, a configuration's fields, what a visitor typed) where something else than text is
read: the one place for each of Markdown, CSV and a terminal's line; for figures it is ``viz.text``, for HTML
``html.escape``.
"""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# C0 and C1 without the tab, delete, the separators that some viewers break lines at, and what turns text around
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MOST_CHARACTERS = 20_000
_SIGNS = frozenset("\\`*_{}[]()#+!|<>$~:&")
_FOUND = re.compile(r"(?<=:)(?=\S)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_BEGINS_BLOCK = re.compile(r"^(\s*\d*)([-.=])")
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The wide forms too: some spreadsheets take them for the usual ones."""


def seen(text: str, most: int) -> str:
    """`text` on one line of at most `most` characters and a "…": control characters, and those that turn the reading
    direction and so can rewrite what stands beside them, become dots."""
    shown = _UNSEEN.sub("·", text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def escaped(text: str) -> str:
    """`text` on one line: each control character as Python would write it."""
    text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def quoted(text: str, most: int = 200) -> str:
    """`text` on one line and no longer than `most` characters, its end kept: for what somebody typed."""
    text = escaped(text)
    return text if len(text) <= most else f"{text[: most * 3 // 4]} … {text[-most // 4 :]}"


def markdown(text: str, most: int = 600) -> str:
    """`text` as Markdown that reads as it does, on one line, shortened to `most` characters.

    Escapes are not enough for Streamlit: it looks for addresses, icons (``:material/…:``) and emoji (``:smile:``) in
    what is left to show. A sign of no width (U+2060, word joiner) breaks those up.
    """
    shown = _FOUND.sub("\u2060", seen(text.replace("\n", " "), most))
    return _BEGINS_BLOCK.sub(r"\1\\\2", "".join("\\" + c if c in _SIGNS else c for c in shown))


def code(text: str, most: int = 60) -> str:
    """`text`, shortened to `most` characters, as Markdown's code: whatever stands in it, it ends where it should."""
    shown = re.sub(r"[^\x20-\x7e\u00a1-\ud7ff]", "·", seen(text, most)).replace("`", "'").replace("$", "·")
    return f"`{shown or ' '}`"


def cell(value: Any) -> Any:
    """`value` as a CSV file holds it: None is empty; a text that a spreadsheet would run as a formula gets a leading
    apostrophe (OWASP, "CSV injection")."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    # the csv module sets a text with a carriage return into no quotes: a reader would begin a row there
    text = value.replace("\r\n", "\n").replace("\r", " ")
    return f"'{text}" if value.lstrip(" ").startswith(_BEGINS_FORMULA) else text
