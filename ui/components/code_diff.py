"""Source code as a coloured diff with a note beside each changed line."""

from __future__ import annotations

import io
import keyword
import token
import tokenize
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import streamlit as st

from attention.lessons.code import Line

_STYLE = Path(__file__).with_name("code_diff.css")
_SPOKEN = {"+": "added", "-": "removed", " ": ""}


def show(lines: Sequence[Line], *, label: str, key: str) -> None:
    """Draw the lines as a table: mark, line number in the file, code, note."""
    with st.container(key=key):
        st.html(_STYLE)
        st.html(table(tuple(lines), label))


def table(lines: Sequence[Line], label: str) -> str:
    """The diff as HTML. All text is escaped. For screen readers each mark also stands in words."""
    rows = []
    for line, code in zip(lines, _coloured(tuple(lines)), strict=True):
        kind = {"+": "add", "-": "del", " ": "same"}[line.change]
        spoken = f'<span class="hs-spoken">{_SPOKEN[line.change]}</span>' if line.change != " " else ""
        mark = {"-": "−"}.get(line.change, line.change)
        note = f'<div class="note">{escape(line.note)}</div>' if line.note else ""
        rows.append(
            f'<div class="row {kind}" role="listitem"><span class="mark" aria-hidden="true">{mark}</span>'
            f'<span class="no" aria-hidden="true">{line.number}</span><code>{spoken}{code}</code>{note}</div>'
        )
    return f'<div class="hs-diff" role="list" aria-label="{escape(label)}" tabindex="0">{"".join(rows)}</div>'


@lru_cache(maxsize=64)
def _coloured(lines: tuple[Line, ...]) -> tuple[str, ...]:
    """Each line as escaped HTML with keywords, strings, numbers and comments marked."""
    sides: dict[str, dict[int, str]] = {}
    for side in ("+", "-"):
        # the lines of one side are a whole class, so Python's own tokenizer can read them
        mine = [line for line in lines if line.change in (" ", side)]
        coloured = _tokens([line.text for line in mine])
        sides[side] = {id(line): code for line, code in zip(mine, coloured, strict=True)}
    return tuple(sides["-" if line.change == "-" else "+"][id(line)] for line in lines)


def _tokens(texts: list[str]) -> list[str]:
    spans: list[list[tuple[int, int, str]]] = [[] for _ in texts]
    try:
        for item in tokenize.generate_tokens(io.StringIO("\n".join(texts) + "\n").readline):
            kind = _kind(item)
            if kind and item.start[0] == item.end[0]:
                spans[item.start[0] - 1].append((item.start[1], item.end[1], kind))
    except (tokenize.TokenError, IndentationError):
        return [escape(text) for text in texts]
    out = []
    for text, marks in zip(texts, spans, strict=True):
        parts, at = [], 0
        for start, end, kind in marks:
            parts.append(escape(text[at:start]))
            parts.append(f'<span class="{kind}">{escape(text[start:end])}</span>')
            at = end
        out.append("".join(parts) + escape(text[at:]))
    return out


def _kind(item: tokenize.TokenInfo) -> str:
    if item.type == token.NAME and (keyword.iskeyword(item.string) or item.string == "self"):
        return "kw"
    return {token.STRING: "str", token.NUMBER: "num", tokenize.COMMENT: "com"}.get(item.type, "")
