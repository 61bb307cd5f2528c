"""No page uses a technical word before it has said what it means: its words are spelt out under its title."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.find_out.pages import PAGES as PAGES_THAT_ASK
from tests.pages.test_pages import open_page
from tests.ui.test_controls import inside
from ui import glossary
from ui.components.navigation import NAVIGATION, ROOT

FILES = {key: file for _, entries in NAVIGATION for key, file, _ in entries if (ROOT / file).exists()}
PAGES = tuple(page for page in FILES if page != "about")  # reference text: sources, limits, licence
UNFOLDED = {"find": "True", **{f"g_{page}": "1" for page in PAGES_THAT_ASK}}
VIEWS: tuple[dict[str, str], ...] = (
    {},
    {"model": "deepseek-ai/DeepSeek-V3", **UNFOLDED},
    {"model": "google/gemma-3-27b-pt"},
)
DRAWN = (
    "headshare_bars",
    "headshare_head_map",
    "headshare_decode_animation",
    "headshare_recompute",
    "headshare_windows",
    "headshare_one_row",
    "headshare_ranks",
)
"""Those of our components that draw something; the others are controls and links."""
MARKUP = re.compile(r"<style.*?</style>|<[^>]*>|`[^`]*`", re.DOTALL)
FIGURE_TEXTS = re.compile(r'"(?:text|name|title)":"([^"\\]*)"')


def texts(at: AppTest) -> list[str]:
    """All that a reader reads, in the order of the page: headings, text, numbers, controls, figures."""
    read = []
    for item in inside(at._tree):
        proto: Any = getattr(item, "proto", None)
        if item.type == "plotly_chart":
            read.append(" ".join(FIGURE_TEXTS.findall(proto.spec)))
        if item.type == "bidi_component" and proto.component_name in DRAWN:
            read.append(proto.json)
        own = (getattr(proto, name, None) for name in ("body", "label", "delta", "help"))
        read += [html.unescape(MARKUP.sub(" ", value)) for value in own if isinstance(value, str)]
        read += [str(option) for option in getattr(proto, "options", ()) if isinstance(option, str)]
    return [text for text in read if text.strip()]


@cache
def shown_on(page: str) -> str:
    return "\n".join(text for view in VIEWS for text in texts(open_page(FILES[page], **view)))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_explains_the_words_it_uses_and_no_others(page: str) -> None:
    assert {word.short for word in glossary.of_page(page)} == glossary.found(shown_on(page))


@pytest.mark.parametrize("page", PAGES)
def test_nothing_before_the_words_uses_one(page: str) -> None:
    """Title and lead come before the words; a technical word in them is spelt out beside it."""
    before = " ".join(texts(open_page(FILES[page]))[:2])
    for word in glossary.of_page(page):
        if word.long and word.short in glossary.found(before):
            assert word.long in before.lower(), f"{word.short} in: {before}"


def test_the_search_can_fail() -> None:
    assert glossary.found("MHA's cache, GQA-8, decoding, K/V heads") == {"MHA", "GQA", "decode", "K/V"}
    assert not glossary.found("XMHA non-window decoder QK/V floors")


def test_every_word_is_explained_in_one_plain_sentence() -> None:
    for word in glossary.words():
        assert word.says.endswith(".")
        assert 20 < len(word.says) < 180
        assert word.says.count(". ") == 0
        assert glossary.found(word.short) == {word.short}
    used = {word.short for page in PAGES for word in glossary.of_page(page)}
    assert used == {word.short for word in glossary.words()}
