"""Find out, at the foot of a page: a guess, the control that shows how it is, why, and three worked problems.

It is folded, and while it is, nothing of it is computed. What was guessed is part of the address.
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
    """The address key of a page's guess: place of the option from 1, 0 for none yet. It stays when a link to the page
    is silent about it."""
    return params.integer(f"g_{page}", 0, 0, MOST_OPTIONS, kept=True)


def keys(page: str) -> tuple[Param, Param]:
    """The address keys of a page that shows ``find_out``."""
    return OPEN, guess_param(page)


def guessed(page: str) -> int | None:
    """Place of the guessed option, from 0; None for none."""
    chosen = int(st.session_state.get(guess_param(page).key) or 0)
    return chosen - 1 if 0 < chosen <= len(of_page(page).guess.options) else None


def find_out(page: str, **values: Any) -> None:
    """Draw it, folded or open; `values` is what the page shows now, by the names its questions use."""
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
    """The question with its options, or what was guessed beside what is right; whether there is a guess."""
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
    """What was guessed, and whether it is so."""
    right = asked.options[asked.right]
    if chosen == asked.right:
        return f":green[**✓ Right:**] {right}."
    return f"You guessed {asked.options[chosen]}; it is **{right}**."


def _problems(problems: tuple[Problem, ...]) -> str:
    """Each folds by itself in the browser, so opening one asks nothing of the server."""
    items = "".join(
        f"<li><details><summary>{html.escape(problem.asks)}</summary>"
        f"<p>{html.escape(problem.working)}<br>= <b>{html.escape(problem.answer)}</b></p></details></li>"
        for problem in problems
    )
    return f'<div class="hs-problems"><h4>Three worked problems</h4><ol>{items}</ol></div>'
