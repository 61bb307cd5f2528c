"""Find out, at the end of a page: a guess, questions that the page's controls answer, the reason, three worked
problems.

The part is folded at first, and nothing of it is computed while it is folded. The guess is part of the address.
"""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from attention.find_out.pages import PAGES, of_page
from attention.find_out.parts import Guess, Problem
from attention.lessons.quiz import questions
from ui import params, state
from ui.params import Param

MOST_OPTIONS = 4
OPEN = params.choice("find", [False, True], False)
"""Whether Find out is unfolded."""


def guess_param(page: str) -> Param:
    """The address key of a page's guess: the option's number from 1, or 0 for no guess.

    The guess stays when a link to the page does not have this key.
    """
    return params.integer(f"g_{page}", 0, 0, MOST_OPTIONS, kept=True)


def keys(page: str) -> tuple[Param, Param]:
    """The address keys of a page that shows ``find_out``."""
    return OPEN, guess_param(page)


def guessed(page: str) -> int | None:
    """Index of the guessed option, from 0; None if there is no guess."""
    chosen = int(st.session_state.get(guess_param(page).key) or 0)
    return chosen - 1 if 0 < chosen <= len(of_page(page).guess.options) else None


def find_out(page: str, **values: Any) -> None:
    """Draw Find out of `page`, folded or open. `values` are what the page shows now, by the names its questions use."""
    assert page in PAGES, page
    folded = st.expander("**Find out:** guess, try, see why, and three worked problems", key="find", on_change="rerun")
    if not folded.open:
        return
    with folded:
        found = of_page(page)
        if _guess(page, found.guess):
            st.markdown("**2 · Try it** with the controls above; the line says what the page shows now.")
            for question in questions(page):
                solved, says = question.judge(**values)
                with st.container(key=f"quiz_{page}_{question.key}", border=True, gap=None):
                    verdict = f":green[**✓ That is it:**] {says}." if solved else f"Now: {says}."
                    st.markdown(f"{question.prompt}\n\n{verdict}")
            st.markdown(f"**3 · Why.** {found.guess.why}")
        st.html(_problems(found.problems))


def _guess(page: str, asked: Guess) -> bool:
    """Draw the question with its options, or the guess and the right answer. Returns whether there is a guess."""
    key = guess_param(page).key
    chosen = guessed(page)
    st.markdown(f"**1 · Guess.** {asked.prompt}")
    with st.container(key=f"guess-{page}", horizontal=True, gap="small", vertical_alignment="center"):
        if chosen is None:
            for place, option in enumerate(asked.options):
                st.button(option, key=f"guess_{page}-{place + 1}", on_click=state.put, kwargs={key: place + 1})
            return False
        st.markdown(said(asked, chosen), width="content")
        st.button("Guess again", key=f"guess_{page}-again", type="tertiary", on_click=state.put, kwargs={key: 0})
    return True


def said(asked: Guess, chosen: int) -> str:
    """The guess in words, and whether it is right."""
    right = asked.options[asked.right]
    if chosen == asked.right:
        return f":green[**✓ Right:**] {right}."
    return f"You guessed {asked.options[chosen]}; it is **{right}**."


def _problems(problems: tuple[Problem, ...]) -> str:
    """The problems as HTML. Each unfolds in the browser, without a request to the server."""
    items = "".join(
        f"<li><details><summary>{html.escape(problem.asks)}</summary>"
        f"<p>{html.escape(problem.working)}<br>= <b>{html.escape(problem.answer)}</b></p></details></li>"
        for problem in problems
    )
    return f'<div class="hs-problems"><h4>Three worked problems</h4><ol>{items}</ol></div>'
