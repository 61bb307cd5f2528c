"""Find out on every page that explains or computes. Folded it costs nothing; opened it takes a guess, shows the control
to try, and says why."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.find_out import pages as asked
from attention.lessons.quiz import questions
from tests.pages.test_pages import assert_sound, open_page, said
from ui import quiz
from ui.components.navigation import NAVIGATION

FILES = {key: file for _, entries in NAVIGATION for key, file, _ in entries}
UNDERSTAND = [key for name, entries in NAVIGATION if name in ("Understand", "Compute") for key, _, _ in entries]


def test_every_page_that_explains_or_computes_asks() -> None:
    assert list(asked.PAGES) == UNDERSTAND
    assert all(questions(page) for page in asked.PAGES)


def buttons(at: AppTest, page: str) -> dict[str, Any]:
    return {str(b.key).rpartition("-")[2]: b for b in at.button if str(b.key).startswith(f"guess_{page}-")}


@pytest.mark.parametrize("page", asked.PAGES)
def test_a_guess_then_the_control_then_why(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []
    whole = quiz.of_page

    def counted(name: str) -> Any:
        asked_for.append(name)
        return whole(name)

    monkeypatch.setattr(quiz, "of_page", counted)
    at = open_page(FILES[page])
    assert_sound(at)
    assert not asked_for, "something of it is computed while it is folded"
    guess = whole(page).guess
    assert guess.prompt not in said(at)

    at.session_state["find"] = True
    at.run()
    assert guess.prompt in said(at)
    assert guess.why not in said(at)
    assert [b.label for b in buttons(at, page).values()] == list(guess.options)

    wrong = (guess.right + 1) % len(guess.options)
    buttons(at, page)[str(wrong + 1)].click().run()
    assert_sound(at)
    assert guess.why in said(at)
    assert f"You guessed {guess.options[wrong]}; it is **{guess.options[guess.right]}**" in said(at)
    for question in questions(page):
        assert question.prompt in said(at)
    assert at.query_params[f"g_{page}"] in (str(wrong + 1), [str(wrong + 1)])
    assert list(buttons(at, page)) == ["again"]


def test_a_guess_stays_when_a_link_to_the_page_is_silent_about_it() -> None:
    at = open_page("pages/why.py", find="True", g_why="2")
    at.switch_page("pages/with_cache.py")
    at.query_params.clear()
    at.query_params["v"] = "1"
    at.run()
    at.switch_page("pages/why.py")
    at.query_params.clear()
    at.query_params["context"] = "32768"
    at.run()
    assert at.session_state["g_why"] == 2
    assert at.session_state["context"] == 32_768


def test_the_summary_says_what_was_guessed_and_its_address_is_enough() -> None:
    right, wrong = asked.of_page("why").guess, asked.of_page("fit").guess
    other = (wrong.right + 1) % len(wrong.options)
    at = open_page("pages/summary.py", g_why=str(right.right + 1), g_fit=str(other + 1))
    assert_sound(at)
    assert {m.label: m.value for m in at.metric} == {"Guessed": f"2 of {len(asked.PAGES)}", "Right": "1 of 2"}
    assert right.why in said(at)
    assert f"You guessed {wrong.options[other]}" in said(at)
    assert asked.of_page("code").guess.why not in said(at)
    empty = open_page("pages/summary.py", g_why="4" if len(right.options) < 4 else "0")
    assert "Nothing is guessed yet" in said(empty)
