"""Makes text from outside safe for Markdown, for CSV and for a line of a terminal.

Such text comes from a run's machine, a configuration's fields or a visitor. Figures use ``viz.text`` instead, and HTML
uses ``html.escape``.
"""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# C0 and C1 without the tab, delete, separators at which some viewers break lines, marks that change text direction
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MOST_CHARACTERS = 20_000
_SIGNS = frozenset("\\`*_{}[]()#+!|<>$~:&")
_FOUND = re.compile(r"(?<=:)(?=\S)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_BEGINS_BLOCK = re.compile(r"^(\s*\d*)([-.=])")
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a formula. Some spreadsheets read the wide forms as the usual ones."""


def seen(text: str, most: int) -> str:
    """`text` on one line, cut after `most` characters with a "…".

    Control characters become dots. So do marks that change the reading direction: they can change how the text beside
    them looks.
    """
    shown = _UNSEEN.sub("·", text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def escaped(text: str) -> str:
    """`text` on one line, with each control character as Python writes it, cut after `MOST_CHARACTERS`."""
    text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def quoted(text: str, most: int = 200) -> str:
    """`text` on one line, for what somebody typed: a text over `most` characters keeps its start and its end."""
    text = escaped(text)
    return text if len(text) <= most else f"{text[: most * 3 // 4]} … {text[-most // 4 :]}"


def markdown(text: str, most: int = 600) -> str:
    """Markdown that shows `text` as it is, on one line, shortened to `most` characters.

    Escapes are not enough for Streamlit: it still finds addresses, icons (``:material/…:``) and emoji (``:smile:``) in
    escaped text. A character without width (U+2060, word joiner) breaks them up.
    """
    shown = _FOUND.sub("\u2060", seen(text.replace("\n", " "), most))
    return _BEGINS_BLOCK.sub(r"\1\\\2", "".join("\\" + c if c in _SIGNS else c for c in shown))


def code(text: str, most: int = 60) -> str:
    """`text` as a Markdown code span, shortened to `most` characters. No character of `text` can end the span."""
    shown = re.sub(r"[^\x20-\x7e\u00a1-\ud7ff]", "·", seen(text, most)).replace("`", "'").replace("$", "·")
    return f"`{shown or ' '}`"


def cell(value: Any) -> Any:
    """`value` as a cell of a CSV file.

    None is an empty cell. Text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP, "CSV
    injection").
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    # the csv module does not quote a carriage return, and a reader would begin a new row there
    text = value.replace("\r\n", "\n").replace("\r", " ")
    return f"'{text}" if value.lstrip(" ").startswith(_BEGINS_FORMULA) else text
