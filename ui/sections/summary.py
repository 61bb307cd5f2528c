"""Parts of the summary: the guess on each page, and the sentence that explains the answer."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from attention.find_out.pages import PAGES, of_page
from attention.units import plural
from ui import frame, quiz
from ui.components.navigation import NAVIGATION
from ui.params import VERSION


class Outcome(NamedTuple):
    """One page with a question. `chosen`: index of the guessed option, None if there is no guess."""

    page: str
    file: str
    label: str
    chosen: int | None

    @property
    def right(self) -> bool:
        return self.chosen == of_page(self.page).guess.right


def outcomes() -> list[Outcome]:
    """Every page with a question, in the order of the list of pages, with the guess that the address holds."""
    listed = [entry for _, entries in NAVIGATION for entry in entries]
    return [Outcome(key, file, label, quiz.guessed(key)) for key, file, label in listed if key in PAGES]


def metrics(found: list[Outcome]) -> None:
    """Draw the number of guesses, and the number of right ones."""
    guessed = [one for one in found if one.chosen is not None]
    right = sum(one.right for one in guessed)
    with frame.numbers():
        st.metric("Guessed", f"{len(guessed)} of {len(found)}", width="content")
        of = f"{right} of {len(guessed)}" if guessed else "–"
        st.metric("Right", of, width="content")
    if not guessed:
        st.caption("Nothing is guessed yet: each page below asks one question at its foot, under *Find out*.")
    elif len(guessed) < len(found):
        left = len(found) - len(guessed)
        st.caption(f"{left} {plural(left, 'page')} still {'asks' if left == 1 else 'ask'}.")


def each(found: list[Outcome]) -> None:
    """Draw each question with a link to its page; if there is a guess, whether it is right, and why."""
    for one in found:
        asked = of_page(one.page).guess
        with st.container(key=f"learned-{one.page}", gap=None):
            st.page_link(one.file, label=f"**{one.label}**", query_params={"v": VERSION, "find": "True"})
            if one.chosen is None:
                st.markdown(f"{asked.prompt} *Not guessed yet.*")
            else:
                st.markdown(f"{asked.prompt} {quiz.said(asked, one.chosen)}  \n{asked.why}")
