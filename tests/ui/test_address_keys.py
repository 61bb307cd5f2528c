"""Every control is part of the address, moves a part of it, or is listed with the reason why it is neither."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.find_out.pages import PAGES as PAGES_THAT_ASK
from tests.pages.test_pages import PAGES, open_page
from tests.ui.test_controls import inside
from ui import address_keys, params

CONFIG = (Path(__file__).parents[1] / "data" / "configs" / "openai-community__gpt2.json").read_text()
DRAWN = ("flex_container", "plotly_chart")
"""Kinds of element that have a key but hold no choice of the visitor."""
VIEWS: tuple[dict[str, Any], ...] = (
    {},
    {"model": "custom", "heads": "15", "kv_heads": "5"},
    {"model": "config"},
    {"model": "google/Gemini-1.0"},
    {"model": "tiiuae/falcon-mamba-7b"},
    {"model": "deepseek-ai/DeepSeek-V3"},
    {"learn_text": "Your own text …", "present": "true"},
    {"run": ["amd-epyc-2-cores", "amd-epyc-2-cores"]},
    {"f_acc": "t4"},
    {"t_what": "Kinds of cache"},
    {"r_view": "Kinds of cache"},
    {"real_view": "heads"},
    {"real_view": "formats"},
)


def declared_by(at: AppTest) -> set[str]:
    """The address keys that the page handed to its frame."""
    return {param.key for own in at.session_state["_headshare"]["params"].values() for param in own}


def controls_of(at: AppTest) -> set[tuple[str, str]]:
    """All controls, each as (key, component or kind of element)."""
    found = set()
    for item in inside(at._tree):
        name = getattr(getattr(item, "proto", None), "id", "")
        key = name.split("-", 2)[2] if isinstance(name, str) and name.startswith("$$") else "None"
        if key != "None" and item.type not in DRAWN:
            found.add((key, getattr(item.proto, "component_name", "") or item.type))
    return found


@cache
def declared(page: str) -> frozenset[str]:
    return frozenset(declared_by(open_page(page)))


@cache
def has_models(page: str) -> bool:
    """Whether a model is picked on the page."""
    return any(area.key == "config_text" for area in open_page(page, model="config").text_area)


@cache
def drawn(page: str) -> frozenset[tuple[str, str]]:
    """All controls that the page draws in at least one view."""
    found = set()
    for view in VIEWS:
        # what the page does not declare changes nothing on it
        if not set(view) - {"present"} <= declared(page) and not ("model" in view and has_models(page)):
            continue
        # the folded part has controls too: its options before a guess, and after one the way back to them
        guessed = {f"g_{name}": "1" for name in PAGES_THAT_ASK} if "model" in view or "f_acc" in view else {}
        at = open_page(page, find="True", **view, **guessed)
        if any(area.key == "config_text" for area in at.text_area):
            at.text_area(key="config_text").set_value(CONFIG).run()
        found |= controls_of(at)
    return frozenset(found)


def lost(controls: Iterable[tuple[str, str]], own: Iterable[str]) -> list[str]:
    """Controls that are neither declared nor listed."""
    keys = {param.key for param in params.SHARED} | set(own)
    found = []
    for key, kind in controls:
        moved = address_keys.moves(key)
        if not (key in keys or moved or address_keys.reason(key) or address_keys.reason(kind)):
            found.append(key)
        # a control that moves a key must move one that this page writes into its address
        if not set(moved) <= keys:
            found.append(f"{key}, which moves {moved}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_control_is_declared_or_listed_with_a_reason(page: str) -> None:
    found = lost(drawn(page), declared(page))
    assert not found, f"neither declared with ui.params nor listed in ui/address_keys.py: {found}"


@pytest.mark.parametrize("page", PAGES)
def test_every_declared_key_has_its_control(page: str) -> None:
    if page == "pages/summary.py":
        return  # it only shows what the controls of other pages were set to
    keys = {key for key, _ in drawn(page)}
    moved = {key for control in keys for key in address_keys.moves(control)}
    assert set(declared(page)) <= keys | moved


def test_the_lists_hold_nothing_that_no_page_draws() -> None:
    names = {name for page in PAGES for control in drawn(page) for name in control}
    # drawn only after a run, of which these tests make none
    later = {"t_only", "lab_weights", "*_stop"}
    for listed in (*address_keys.MOVES, *address_keys.TRANSIENT):
        assert listed in later or any(address_keys.fnmatchcase(name, listed) for name in names), listed


def test_the_check_can_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(
        "import streamlit as st\nfrom ui import frame\n"
        "with frame.page('x', title='X', lead='x'):\n    st.number_input('N', 1, 9, key='forgotten')\n"
    )
    at = AppTest.from_file(str(page), default_timeout=30).run()
    assert lost(controls_of(at), declared_by(at)) == ["forgotten"]


def test_numbers_of_the_address_are_written_whole() -> None:
    param = params.number("x", 1.0, 0.001, 100_000)
    for value in (12345.678, 0.001, 99999.999, 8.0, 0.1 + 0.2):
        assert param.parse(param.write(value)) == pytest.approx(value, rel=1e-11)
