"""The real model's page: what is no prompt is refused in words, and without the model all else is there."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from attention.llm import place, recorded
from tests.pages.test_pages import open_page


def _page(**query: str) -> AppTest:
    return open_page("pages/real_model.py", **query)


def test_without_the_model_the_page_says_how_to_get_it_and_shows_what_was_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "PACKAGE", "no_such_package_here")
    at = _page()
    assert "requirements-model.txt" in at.info[0].value
    assert at.button(key="real_run").disabled
    assert any("A recorded run on" in one.value for one in at.markdown)
    assert len(at.get("plotly_chart")) == 2


def test_the_recorded_run_is_one_that_shows_what_the_page_says() -> None:
    written = recorded.run()
    columns = written.columns
    assert [columns[name].n_kv_heads for name in ("mha", "gqa", "mqa")] == [9, 3, 1]
    assert columns["mha"].text == columns["gqa"].text != columns["mqa"].text
    assert columns["mha"].cache_bytes == 3 * columns["gqa"].cache_bytes == 9 * columns["mqa"].cache_bytes
    losses = recorded.losses(written.about["name"])
    assert losses["mha"] == losses["gqa"] < losses["mqa"]
    pair = recorded.load()["likeness"]["without_first"]
    assert len(pair["within"]) == 30
    assert recorded.losses("another model") == {}


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("   ", "at least one character that is no blank"),
        ("a\x07b", "control characters"),
    ],
)
def test_what_is_no_prompt_is_refused_in_words(prompt: str, told: str) -> None:
    at = _page()
    at.text_area(key="real_prompt").set_value(prompt).run()
    assert any(told in one.value for one in at.warning)
    assert at.button(key="real_run").disabled
    assert not at.exception


def test_a_far_too_long_prompt_is_cut_and_said() -> None:
    at = _page()
    at.text_area(key="real_prompt").set_value("x" * 100_000).run()
    assert at.text_area(key="real_prompt").value == "x" * 2_000
    assert any("had 100,000 characters" in one.value for one in at.caption)
