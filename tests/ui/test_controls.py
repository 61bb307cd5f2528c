"""Controls that several pages share: where they are on the page, and which configuration a page is about."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.browser_history import opened_from_history
from tests.pages.test_pages import (
    PAGES,
    assert_sound,
    open_page,
    said,
)
from ui import jobs, params
from ui.sections.heads_learn import OWN

CONFIGS = Path(__file__).parents[1] / "data" / "configs"
QWEN, GPT2 = CONFIGS / "Qwen__Qwen3-8B.json", CONFIGS / "openai-community__gpt2.json"


def inside(block: Any) -> Iterator[Any]:
    """Everything inside a block of the page, at any depth."""
    for child in block.children.values():
        yield child
        if hasattr(child, "children"):
            yield from inside(child)


@pytest.mark.parametrize("page", PAGES)
def test_no_control_stands_where_the_browser_makes_it_late(page: str) -> None:
    """No control is in a popover or a dialog: the browser makes those when it opens, with the first option or the last
    value they had."""
    at = open_page(page)
    late = [block for block in inside(at._tree) if block.type in ("popover", "dialog")]
    controls = [item.proto.id for block in late for item in inside(block) if getattr(item, "key", None)]
    assert controls == []


@pytest.mark.parametrize("page", PAGES)
def test_no_field_drops_what_is_too_long(page: str) -> None:
    """A field with a limit of its own drops a longer text entirely, without saying so."""
    at = open_page(page, model=params.PASTED, learn_text=OWN)
    assert [field.key for field in (*at.text_area, *at.text_input) if field.proto.max_chars] == []


def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The payloads of all checks that are asked for from now on. None of them runs."""
    payloads: list[dict[str, Any]] = []

    def start(key: str, kind: str, payload: dict[str, Any], limits: object = None) -> None:
        if kind == "verify":
            payloads.append(payload)

    monkeypatch.setattr(jobs, "start", start)
    return payloads


def own_page(name: str = "pages/kv_cache.py") -> AppTest:
    return open_page(name, model=params.PASTED)


def carried_type(at: AppTest) -> str:
    """The model type of the configuration in the text field."""
    return str(json.loads(at.text_area(key="config_text").value or "")["model_type"])


def shown(at: AppTest) -> str:
    assert_sound(at)
    return str(at.metric[2].value)


def upload(at: AppTest, path: Path) -> AppTest:
    return at.file_uploader(key="config_file").upload(path.name, path.read_bytes(), "application/json").run()


def paste(at: AppTest, path: Path) -> AppTest:
    return at.text_area(key="config_text").set_value(path.read_text()).run()


@pytest.mark.parametrize(
    ("steps", "model_type", "token"),
    [
        ([(paste, QWEN), (upload, GPT2)], "gpt2", "36.0 KiB"),
        ([(upload, GPT2), (paste, QWEN)], "qwen3", "144 KiB"),
        ([(upload, GPT2)], "gpt2", "36.0 KiB"),
        ([(paste, QWEN)], "qwen3", "144 KiB"),
        ([(upload, QWEN), (upload, GPT2)], "gpt2", "36.0 KiB"),
    ],
)
def test_what_came_last_is_shown_carried_and_verified(
    monkeypatch: pytest.MonkeyPatch, steps: Any, model_type: str, token: str
) -> None:
    payloads = asked(monkeypatch)
    at = own_page()
    for step, path in steps:
        at = step(at, path)
    assert shown(at) == token
    assert carried_type(at) == model_type
    at.button(key="kv_verify_run").click().run()
    assert [payload["config"]["model_type"] for payload in payloads] == [model_type]
    # the address carries the same one
    again = open_page("pages/kv_cache.py", model=params.PASTED, config=at.session_state["config"])
    assert shown(again) == token


def test_an_address_with_another_configuration_replaces_the_one_in_the_text_field() -> None:
    carried = paste(own_page(), GPT2).session_state["config"]
    at = paste(own_page(), QWEN)
    at.query_params["config"] = carried
    with opened_from_history():
        at.run()
    assert shown(at) == "36.0 KiB"
    assert carried_type(at) == "gpt2"


def test_what_cannot_be_taken_is_refused_in_words_and_the_page_stays_as_it_was() -> None:
    at = paste(own_page(), GPT2)
    at.file_uploader(key="config_file").upload("a.json", b"\xff\xfe\x00{", "application/json").run()
    assert "not text in UTF-8" in said(at)
    assert shown(at) == "36.0 KiB"
    at.text_area(key="config_text").set_value("x" * 1_000_001).run()
    assert "accepted are at most 1,000,000" in said(at)
    assert shown(at) == "36.0 KiB"
    paste(at, QWEN)
    assert "accepted are" not in said(at)
    assert shown(at) == "144 KiB"


def test_the_configuration_goes_with_the_visitor() -> None:
    at = upload(own_page(), GPT2)
    at.switch_page("pages/heads.py").run()
    assert carried_type(at) == "gpt2"
    at.switch_page("pages/about.py").run()
    at.switch_page("pages/kv_cache.py").run()
    assert shown(at) == "36.0 KiB"


def test_what_the_browser_may_not_have_heard_is_told_again() -> None:
    """A browser sends a request before it has heard of the end of the last run. What that run had set is then set once
    more, also in the controls that mirror a key of the address."""
    at = open_page("pages/kv_cache.py", context="32768", batch="7")
    at.run()
    store = at.session_state["_headshare"]
    for ago, again in ((10.0, False), (0.0, True)):
        store["told"] = time.monotonic() - ago
        at.run()
        assert at.select_slider(key="context_pick").proto.set_value is again
        assert at.number_input(key="batch").proto.set_value is again
        assert at.select_slider(key="context_pick").value == 32768
