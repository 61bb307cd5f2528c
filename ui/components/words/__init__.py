"""The words that a page uses, spelt out under its title; plain words of the field wait behind a button there. Pointer,
touch and keyboard open a word's meaning there; pointer and touch also open it in the page's text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ui import glossary
from ui.components.component import component

_component = component(
    Path(__file__).parent,
    html='<div class="hs-words" role="group" aria-label="Words on this page"></div>'
    '<p class="hs-words-paper" aria-hidden="true"></p>'
    '<div class="hs-word" id="hs-word" role="tooltip" hidden></div>',
    apart=False,
)


@cache
def _data(page: str) -> dict[str, Any]:
    items, known = [], {}
    for word in glossary.of_page(page):
        items.append([word.short, word.long or "", word.quiet])
        for form in word.forms:
            known[form] = [word.short, word.long, word.says]
    return {"items": items, "known": known}


def words(page: str) -> None:
    """Draw the words of `page`; nothing for a page without a list of words."""
    if (data := _data(page))["known"]:
        _component(key="words", data=data)
