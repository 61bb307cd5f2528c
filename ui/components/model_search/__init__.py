"""A search field over the catalogue, for one model, or for several as chips. The browser searches, the page chooses.

The field always shows the value in the session's state, so it agrees with the page.
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
    """Draw a field for one model; return the value of the session's `key`: an id of the catalogue or a key of `others`.

    Args:
        key: key of the session's state that holds the choice; also names the element (``st-key-KEY``).
        others: further choices, value -> label; they come first in the list, and after a search that finds nothing.
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
    """Draw a field for several models, kept as a list in the session's `key`.

    Args:
        labels: the chosen values -> the text of their chips; a value need not be an id of the catalogue.
        most: the largest number of models that can be chosen.
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
        # {"value": the pick, "n": its number}: by the number the browser ignores answers to earlier picks
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
