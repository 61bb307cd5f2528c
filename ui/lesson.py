"""Teaching text: one Markdown file per section under ``ui/lessons``, filled with the chosen configuration's numbers.

A placeholder is ``[[name]]``, or ``[[name|thing]]`` for a number of things ("1 query head", "32 query heads"). Braces
and dollar signs are left to LaTeX.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import streamlit as st

from attention.units import plural

LESSONS = Path(__file__).with_name("lessons")
_PLACE = re.compile(r"\[\[(\w+)(?:\|([\w/ ]+))?\]\]")


@lru_cache(maxsize=256)
def _read(name: str) -> str:
    return (LESSONS / f"{name}.md").read_text(encoding="utf-8").strip()


def text(name: str, **values: object) -> str:
    """The section's Markdown with every placeholder filled.

    Raises:
        KeyError: a placeholder has no value: the page and the text do not agree.
    """

    def filled(place: re.Match[str]) -> str:
        value = str(values[place[1]])
        return value if place[2] is None else f"{value} {plural(int(value.replace(',', '')), place[2])}"

    return _PLACE.sub(filled, _read(name))


def show(name: str, **values: object) -> None:
    """Draw the section `name`; `values` as for :func:`text`."""
    st.markdown(text(name, **values))
