"""The frame around every page: title, navigation, address, and what happens when something goes wrong.

Pages are classic Streamlit pages: each is self-sufficient, so a link is also good as the first request to a
server that has just started.
"""

from __future__ import annotations

import gc
import html
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, StopException

from attention import foreign_text
from attention.errors import SettingError
from ui import printed, state, view_words
from ui.components.copy_link import copy_link
from ui.components.lecture import lecture
from ui.components.more import more_panel
from ui.components.navigation import ROOT, navigation
from ui.components.path import path
from ui.components.words import words
from ui.params import PRESENT, SHARED, Param
from ui.server import client
from ui.server.turns import Turns
from viz.theme import enlarged

_log = logging.getLogger("headshare")
_turns = Turns()


def embedded() -> bool:
    """Whether the page is shown inside another (``?embed=true``): figure only, no navigation."""
    return bool(st.context.is_embedded)


def presenting() -> bool:
    """Whether the page is shown large, for a lecture (``?present=true``)."""
    return not embedded() and st.session_state.get(PRESENT.key) == "true"


@contextmanager
def page(key: str, *, title: str, lead: str, params: Sequence[Param] = ()) -> Iterator[None]:
    """Draw the frame, run the page inside it, and write its state back to the address. Visitors take turns.

    Args:
        key: the page's key in ``ui.components.navigation.NAVIGATION``.
        title: heading and browser title.
        lead: one sentence under the heading that says what to do here.
        params: address keys of this page alone; their values are in ``st.session_state`` from here on.
    """
    state.set_arrived()
    ahead = state.take_interrupted()
    with _turns.turn(client=client.current(), ahead=ahead):
        try:
            with _page(key, title, lead, params):
                yield
        except RerunException:
            # a moved control ends the run for one with its newer value, which shall not queue again; but only once in
            # a row, or who never stops moving would keep everybody waiting
            if not ahead:
                state.set_interrupted()
            raise
        _set_libraries_apart()


@contextmanager
def turn() -> Iterator[None]:
    """For a part of a page that runs by itself, again and again: it takes turns too."""
    with _turns.turn(client=client.current()):
        yield


@contextmanager
def _page(key: str, title: str, lead: str, params: Sequence[Param]) -> Iterator[None]:
    st.set_page_config(
        page_title=f"{title} · Headshare",
        layout="wide",
        menu_items={"Get help": None, "Report a bug": None, "About": "Headshare: see why models share K/V heads."},
    )
    st.html(ROOT / "ui" / "style.css")
    replaced = state.restore(key, params)
    says = _says(key, title)
    if embedded():
        hidden = ", ".join(
            f".st-key-{part}"
            for part in ("bar", "bar-models", "bar-subject", "below-bar", "examples", "details", "numbers")
        )
        st.html(f"<style>{hidden} {{display: none}}</style>")
        shown = _embedded_header(title, says)
    elif presenting():
        st.html(f"<style>{_LECTURE}</style>")
        _header(title, lead, says)
        lecture(key, {param.key: st.session_state[param.key] for param in (*SHARED, *params)})
        shown = None
    else:
        with st.sidebar:
            navigation(key)
        _header(title, lead, says)
        words(key)
        shown = None
    st.session_state["_named"] = []
    if replaced:
        with st.container(key="notice"):
            st.caption("Parts of this address could not be used.  \n" + "  \n".join(replaced[:8]))
    try:
        with guard():
            yield
        if shown is not None:
            named = html.escape(" · ".join([*st.session_state["_named"], _today()]))
            shown.html(f'<p class="hs-shown">{named}</p>{_on_paper(says)}')
        elif not presenting():
            path(key)
    except StopException:
        # st.stop() ends a page early but regularly; a rerun request means newer values are on their way
        state.remember(key, params)
        raise
    state.remember(key, params)


def _says(key: str, title: str) -> str:
    """What the view shows, in a sentence; no page fails for want of one."""
    try:
        return view_words.of(key, {param.key: st.session_state[param.key] for param in view_words.known(key)}).says
    except Exception:
        _log.exception("the words of a view failed")
        return title


def _today() -> str:
    """The date, as a publication has it."""
    return f"{date.today():%d %B %Y}".lstrip("0")


_modules_apart = 0


def _set_libraries_apart() -> None:
    """A whole garbage collection looks at every object of every library: 0.1 s in which nothing else runs. What has
    been loaded stays anyway, so it is set apart once; a later page may load more."""
    global _modules_apart
    if len(sys.modules) > _modules_apart:
        _modules_apart = len(sys.modules)
        gc.collect()
        gc.freeze()


@contextmanager
def guard() -> Iterator[None]:
    """Turn what goes wrong inside into a message, so that the rest of the page stays."""
    try:
        yield
    except SettingError:
        _log.exception("a setting of this server is wrong")
        st.error("This server is not set up right, and its log says how. The rest still works.")
    except ValueError as error:
        with st.container(key=f"problem-{len(str(error))}"):
            st.warning(foreign_text.markdown(str(error)))
    except Exception:
        _log.exception("a page failed")
        st.error("Sorry, this part of the page failed. The rest still works; the server's log has the details.")


_LECTURE = """
html { font-size: clamp(100%, 0.6vw + 0.75rem, 200%); --hs-zoom: 1.25; }
@media (min-width: 1600px) { html { --hs-zoom: 1.5; } }
.stAppViewContainer { padding-left: 0 !important; }
.stMain .stMainBlockContainer { max-width: 80rem !important; padding-block: 1.25rem 4rem !important; }
.stMain .stElementContainer.st-key-lecture, .stElementContainer:has(> .stHtml > style) { position: absolute; }
.stAppHeader, .st-key-examples, .st-key-cmp_examples { display: none; }
"""
"""Of the lecture view: what stands in rem grows with the window, our pictures by their zoom, figures in ``chart``."""


def _header(title: str, lead: str, says: str) -> None:
    with st.container(key="head", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="head-text", gap=None):
            st.title(title, anchor=False)
            st.html(f'<h2 class="hs-lead">{html.escape(lead)}</h2>{_on_paper(says)}')
        copy_link(says)


def _on_paper(says: str) -> str:
    """What a printed page begins with: what it shows, its address and the date, which head.js fills in. An attribute,
    because on the screen it is no text of the page."""
    return f'<p class="hs-paper" title="{html.escape(says)}"><span class="hs-paper-where"></span></p>'


def _embedded_header(title: str, says: str) -> Any:
    """Title and a way back to the whole page; returns the place for what the page shows, known when it has run."""
    with st.container(key="head", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="head-text", gap=None):
            st.title(title, anchor=False)
            shown = st.empty()
        copy_link(says, back=True)
    return shown


def name_shown(text: str) -> None:
    """Tell what is chosen by a control, for a page inside another, which shows no controls."""
    st.session_state.setdefault("_named", []).append(text)


def bar(*weights: float) -> list[Any]:
    """One compact row of controls; returns its columns. At most six controls, the rest under ``more()``."""
    columns = st.container(key="bar").columns(list(weights), gap="small", vertical_alignment="bottom")
    st.session_state["_below_bar"] = st.container(key="below-bar")
    return list(columns)


def below_bar() -> Any:
    """Container under the row of controls, for inputs that only some choices need."""
    return st.session_state["_below_bar"]


def more(label: str = "More") -> Any:
    """Panel for the controls that are rarely needed."""
    return more_panel(label)


def numbers() -> Any:
    """Row for the one or two large metrics."""
    return st.container(key="numbers", horizontal=True, gap="medium")


def details() -> Any:
    """Container for what stands below the figure: formula, table, lesson. Not shown when embedded."""
    return st.container(key="details")


def table(columns: Mapping[str, Sequence[Any]], **options: Any) -> Any:
    """Draw a table that can be sorted and searched.

    Args:
        columns: heading -> values, all of one kind or None. They are handed on as an Arrow table, which takes a tenth
            of the time of the way over a DataFrame.
        options: of ``st.dataframe``, e.g. ``key=`` or ``column_config=``.
    """
    import pyarrow as pa  # not every page has a table

    rows = pa.table({name: list(values) for name, values in columns.items()})
    shown = st.dataframe(rows, hide_index=True, **{"placeholder": "–", **options})
    st.html(printed.table(columns, options.get("column_config", {})))
    return shown


def records(rows: Sequence[Mapping[str, Any]], **options: Any) -> Any:
    """``table`` of rows that have the same keys."""
    names = list(rows[0]) if rows else []
    return table({name: [row[name] for row in rows] for name in names}, **options)


def chart(fig: Any, *, key: str, filename: str, alt: str, **options: Any) -> Any:
    """Draw a Plotly figure in Headshare's look, with SVG and PNG download; larger in a lecture.

    Args:
        fig: a figure of ``viz``.
        key: stable key, so that a redraw does not flicker.
        filename: of a downloaded picture, without ending.
        alt: what the figure shows, for people who cannot see it.
        options: of ``st.plotly_chart``, e.g. ``height=360`` or ``on_select``.
    """
    config = {
        "displaylogo": False,
        "displayModeBar": "hover",
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
        "toImageButtonOptions": {"format": "svg", "filename": filename, "scale": 2},
        "responsive": True,
    }
    if presenting():
        fig = enlarged(fig)
    return st.plotly_chart(fig, theme=None, key=key, config=config, alt=alt, **options)
