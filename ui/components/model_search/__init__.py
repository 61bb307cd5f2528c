"""A search field over the catalogue: one model, or several as chips. Finding is the browser's, choosing the page's.

What it shows as chosen is always the value in the session's state, so it never reads other than the page does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from attention.memory.model_words import findable
from ui.components.component import component

_component = component(Path(__file__).parent)


def model_search(label: str, key: str, *, others: Mapping[str, str] | None = None) -> str:
    """A field for one model; returns the value of the session's `key`, an id of the catalogue or a key of `others`.

    Args:
        key: of the session's state, where the choice is kept; also names the element (``st-key-KEY``).
        others: further choices, value -> label; offered first, and where nothing is found.
    """
    others = dict(others or {})
    known = {*others, *(row.id for row in findable())}

    def take(value: Any) -> None:
        if isinstance(value, str) and value in known:
            st.session_state[key] = value

    _draw(label, key, take, others=list(others.items()), chosen=[st.session_state[key]])
    return str(st.session_state[key])


def models_search(
    label: str, key: str, labels: Mapping[str, str], most: int, *, others: Mapping[str, str] | None = None
) -> None:
    """A field for several models, kept as a list in the session's `key`.

    Args:
        labels: what the chips of the chosen ones say, by value; values may be other than ids of the catalogue.
        most: so many can be chosen.
        others: further choices, value -> label.
    """
    more = {value: name for value, name in (others or {}).items() if value not in labels}
    known = {*labels, *more, *(row.id for row in findable())}

    def take(values: Any) -> None:
        if isinstance(values, list) and len(values) <= most and all(v in known for v in values if isinstance(v, str)):
            st.session_state[key] = list(dict.fromkeys(v for v in values if isinstance(v, str)))

    _draw(label, key, take, others=list(more.items()), chosen=list(labels), chips=list(labels.values()), most=most)


def _draw(label: str, key: str, take: Callable[[Any], None], **data: Any) -> None:
    name, count = f"{key}_search", f"_{key}_picks"

    def picked() -> None:
        # {"value": what was picked, "n": its number}: answers to earlier picks are not shown over a later one
        said = st.session_state[name].get("pick")
        if isinstance(said, Mapping) and isinstance(said.get("n"), int):
            st.session_state[count] = said["n"]
            take(said.get("value"))

    with st.container(key=key):
        _component(
            key=name,
            data={"label": label, "models": _models(), "n": st.session_state.get(count, 0), **data},
            on_pick_change=picked,
        )


def _models() -> Sequence[Sequence[Any]]:
    return [list(row) for row in findable()]
