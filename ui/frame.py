"""The frame around every page: title, navigation, address, and messages for errors.

Pages are classic Streamlit pages. Each one stands alone, so a link to it also works as the first request to a server
that has just started.
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
turns = Turns()


def embedded() -> bool:
    """Whether the page is shown inside another page (``?embed=true``): figure only, no navigation."""
    return bool(st.context.is_embedded)


def presenting() -> bool:
    """Whether the page is shown large, for a lecture (``?present=true``)."""
    return not embedded() and st.session_state.get(PRESENT.key) == "true"


@contextmanager
def page(key: str, *, title: str, lead: str, params: Sequence[Param] = ()) -> Iterator[None]:
    """Draw the frame, run the page inside it, and write its state back to the address. Visitors' runs take turns.

    Args:
        key: the page's key in ``ui.components.navigation.NAVIGATION``.
        title: heading and browser title.
        lead: one sentence under the heading that says what to do here.
        params: the page's own address keys; their values are in ``st.session_state`` inside the block.
    """
    state.set_arrived()
    ahead = state.take_interrupted()
    with turns.turn(client=client.current(), ahead=ahead):
        try:
            with _page(key, title, lead, params):
                yield
        except RerunException:
            # A moved control ends this run and starts another with the newer value. That run goes ahead in the queue,
            # but only once in a row: otherwise one visitor who moves a control all the time would block the others.
            if not ahead:
                state.set_interrupted()
            raise
        _set_libraries_apart()


@contextmanager
def turn() -> Iterator[None]:
    """Take a turn for a part of a page that runs by itself, such as a fragment."""
    with turns.turn(client=client.current()):
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
        # st.stop() ends a page early but regularly, so its state is kept; a RerunException brings newer values
        state.remember(key, params)
        raise
    state.remember(key, params)


def _says(key: str, title: str) -> str:
    """What the view shows, in one sentence; if that fails, the title, so that the page still works."""
    try:
        return view_words.of(key, {param.key: st.session_state[param.key] for param in view_words.known(key)}).says
    except Exception:
        _log.exception("the words of a view failed")
        return title


def _today() -> str:
    """The date in words, such as "7 March 2025"."""
    return f"{date.today():%d %B %Y}".lstrip("0")


_modules_apart = 0


def _set_libraries_apart() -> None:
    """Exclude the objects of loaded libraries from garbage collection, again after a page has loaded more.

    A full collection visits every object of every library: it takes 0.1 s in which nothing else runs, and frees none.
    """
    global _modules_apart
    if len(sys.modules) > _modules_apart:
        _modules_apart = len(sys.modules)
        gc.collect()
        gc.freeze()


@contextmanager
def guard() -> Iterator[None]:
    """Turn an error inside the block into a message, so that the rest of the page stays."""
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
"""Style of the lecture view. Sizes in rem grow with the window, our pictures by zoom; ``chart`` enlarges figures."""


def _header(title: str, lead: str, says: str) -> None:
    with st.container(key="head", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="head-text", gap=None):
            st.title(title, anchor=False)
            st.html(f'<h2 class="hs-lead">{html.escape(lead)}</h2>{_on_paper(says)}')
        copy_link(says)


def _on_paper(says: str) -> str:
    """The first lines of a printed page: what it shows, its address and the date. head.js fills in the last two.

    The sentence is in an attribute, because on the screen it is not part of the page's text.
    """
    return f'<p class="hs-paper" title="{html.escape(says)}"><span class="hs-paper-where"></span></p>'


def _embedded_header(title: str, says: str) -> Any:
    """Draw the title and a link to the whole page; return the element for what the page shows, filled later."""
    with st.container(key="head", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="head-text", gap=None):
            st.title(title, anchor=False)
            shown = st.empty()
        copy_link(says, back=True)
    return shown


def name_shown(text: str) -> None:
    """Note the text of a chosen value, to be listed on a page inside another page, which shows no controls."""
    st.session_state.setdefault("_named", []).append(text)


def bar(*weights: float) -> list[Any]:
    """Start one compact row of controls and return its columns, at most six; further controls go into ``more()``."""
    columns = st.container(key="bar").columns(list(weights), gap="small", vertical_alignment="bottom")
    st.session_state["_below_bar"] = st.container(key="below-bar")
    return list(columns)


def below_bar() -> Any:
    """The container under the row of controls, for inputs that only some choices need."""
    return st.session_state["_below_bar"]


def more(label: str = "More") -> Any:
    """The panel for controls that are rarely needed."""
    return more_panel(label)


def numbers() -> Any:
    """The row for the large metrics."""
    return st.container(key="numbers", horizontal=True, gap="medium")


def details() -> Any:
    """The container below the figure, for formula, table and lesson. It is not shown when the page is embedded."""
    return st.container(key="details")


def table(columns: Mapping[str, Sequence[Any]], **options: Any) -> Any:
    """Draw a table that can be sorted and searched.

    Args:
        columns: heading -> values, all of one type or None. They are passed as an Arrow table, which takes a tenth of
            the time of a DataFrame.
        options: options of ``st.dataframe``, such as ``key=`` or ``column_config=``.
    """
    import pyarrow as pa  # not every page has a table

    rows = pa.table({name: list(values) for name, values in columns.items()})
    shown = st.dataframe(rows, hide_index=True, **{"placeholder": "–", **options})
    st.html(printed.table(columns, options.get("column_config", {})))
    return shown


def records(rows: Sequence[Mapping[str, Any]], **options: Any) -> Any:
    """Draw ``table`` from rows that have the same keys."""
    names = list(rows[0]) if rows else []
    return table({name: [row[name] for row in rows] for name in names}, **options)


def chart(fig: Any, *, key: str, filename: str, alt: str, **options: Any) -> Any:
    """Draw a Plotly figure in Headshare's look, with SVG and PNG download; larger in a lecture.

    Args:
        fig: a figure of ``viz``.
        key: stable key, so that a redraw does not flicker.
        filename: name of a downloaded picture, without ending.
        alt: what the figure shows, for people who cannot see it.
        options: options of ``st.plotly_chart``, such as ``height=360`` or ``on_select``.
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
