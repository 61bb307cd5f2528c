"""The session's state and the address: each is restored from the other.

The address decides when it is new (a link, Back, Reload); otherwise the widgets decide. Values are in
``st.session_state`` under their address key. A copy is kept, because Streamlit removes the state of widgets that a page
does not draw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from attention import foreign_text
from ui.params import CONFIG, MODEL, PASTED, SHARED, SIZES, VERSION, Param, takes_sizes

_STORE = "_headshare"
_UNHEARD_S = 0.3
"""A request that comes so soon after a run may have been sent before the browser got the run's values; nobody reacts so
fast to what a run has drawn."""

Query = dict[str, list[str]]


def _store() -> dict[str, Any]:
    if _STORE not in st.session_state:
        st.session_state[_STORE] = {
            "values": {},  # the last value of every key, of all pages
            "page": None,  # the page of this run
            "drawn": None,  # the page of the last run that ended, and
            "seen": {},  # the values that this run drew
            "params": {},  # page -> its own keys, for each page that was visited
            "set": {},  # values that the program has set since that run
            "told": 0.0,  # the time at which a run ended that had set something
            "unheard": False,  # whether the browser asked for this run before it got those values
        }
    return st.session_state[_STORE]


def set_interrupted() -> None:
    """Note that this session's run was given up for a newer run."""
    _store()["interrupted"] = True


def set_arrived() -> None:
    """Note the time of the browser's request for this run; call it before the run waits for its turn."""
    _store()["arrived"] = time.monotonic()


def take_interrupted() -> bool:
    """Whether this session's last run was given up for this one. The note of it is then removed."""
    return bool(_store().pop("interrupted", False))


def _incoming() -> Query:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def restore(page: str, params: Sequence[Param]) -> list[str]:
    """Put a valid value for every key of this page into ``st.session_state``, before any widget is drawn.

    Returns:
        One sentence for each value of the address that had to be replaced.
    """
    store = _store()
    known = (*SHARED, *params)
    store["params"][page] = tuple(params)
    moved = page != store["page"]
    query = _incoming()
    now = store.get("arrived", time.monotonic())
    # These values were set by a run that was given up for this one, so the browser may still show and send older
    # values. Setting them again sends them again. The same holds for a run whose end the browser may not know.
    unfinished = {} if moved else store["set"]
    for key, value in unfinished.items():
        said = st.session_state.get(key, value)
        st.session_state[key] = value if key in store["seen"] and said == store["seen"][key] else said
    store["unheard"] = not moved and now - store["told"] < _UNHEARD_S
    if store["unheard"]:
        for key in store["seen"].keys() & set(st.session_state):
            st.session_state[key] = st.session_state[key]
    touched = not moved and any(
        param.key in store["seen"] and st.session_state.get(param.key) != store["seen"][param.key] for param in known
    )
    if touched and st.session_state.get(MODEL.key) != store["seen"].get(MODEL.key):
        _reset_per_model()
    replaced: list[str] = []
    # in any other run the query is one that this program wrote, the last or an earlier one
    if query and (moved or _by_history()):
        values, replaced = read(query, known)
        if moved:
            own = (param.key for param in known if param.kept and param.key not in query)
            values |= {key: store["values"][key] for key in own if key in store["values"]}
        for key, value in values.items():
            st.session_state[key] = value
        store["set"] = values
    else:
        for param in known:
            if moved or param.key not in st.session_state:
                st.session_state[param.key] = store["values"].get(param.key, _fresh(param.default))
        if moved:
            store["set"] = {param.key: st.session_state[param.key] for param in known}
    for param in known:
        # if the options have changed since the browser drew them, its choice arrives as the option's label
        if isinstance(param.default, int) and isinstance(st.session_state.get(param.key), str):
            st.session_state[param.key] = param.default
    store["page"] = page
    return replaced


def _by_history() -> bool:
    """Whether Back, Forward or a link within the app caused this run: then the address decides."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))


def moved() -> bool:
    """Whether the page has changed since the last run that ended: a widget with the same key is then a new widget."""
    store = _store()
    return bool(store["page"] != store["drawn"])


def unheard() -> bool:
    """Whether the browser asked for this run before it got the values that the last run set; they are sent again."""
    return bool(_store()["unheard"])


def _fresh(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def read(query: Mapping[str, list[str]], known: Sequence[Param]) -> tuple[dict[str, Any], list[str]]:
    """(values of all `known` keys from `query`, one sentence for each replaced value). Unknown keys are ignored."""
    values: dict[str, Any] = {}
    replaced: list[str] = []
    if query.get("v", [VERSION])[-1] != VERSION:
        replaced.append(
            f"This address was made for version {foreign_text.code(query['v'][-1], 8)}; defaults may differ."
        )
    for param in known:
        texts = query.get(param.key)
        values[param.key] = _fresh(param.default)
        if not texts:
            continue
        parsed, bad = [], []
        for text in texts[:256] if param.many else texts[-1:]:
            try:
                parsed.append(param.parse(text))
            except ValueError as error:
                bad.append((text, str(error)))
        if param.many and (parsed or texts == [""]):
            values[param.key] = list(dict.fromkeys(parsed))
        elif parsed:
            values[param.key] = parsed[0]
        if bad and texts != [""]:
            text, why = bad[0]
            instead = (
                "left out"
                if param.many
                else f"replaced by {foreign_text.code(param.write(param.default) or 'nothing')}"
            )
            hint = f" ({why})" if why and why != text and param is MODEL else ""
            hint = hint.replace(text, text[:60]) if len(text) > 60 else hint
            replaced.append(
                f"{param.key}: {foreign_text.code(text)} was {instead}; accepted is {param.accepted}."
                + quoted_hint(hint)
            )
    return values, replaced


def quoted_hint(hint: str) -> str:
    return f" {foreign_text.code(hint.strip(' ()'), 160)}" if hint else ""


def query_of(values: Mapping[str, Any], params: Sequence[Param]) -> Query:
    """The address keys for `values`: some are always written, the others only if they do not have their default."""
    out: Query = {"v": [VERSION]}
    model = values.get(MODEL.key, MODEL.default)
    sized = takes_sizes(model)
    for param in (*SHARED, *params):
        if (param in SIZES and not sized) or (param is CONFIG and model != PASTED and not _compared(values)):
            continue
        value = values.get(param.key, param.default)
        if value is None or (not param.always and value == param.default and param not in SIZES):
            continue
        if param.many:
            out[param.key] = [param.write(item) for item in value] or [""]
        else:
            out[param.key] = [param.write(value)]
    return out


def _compared(values: Mapping[str, Any]) -> bool:
    """Whether the pasted configuration is a column of a comparison."""
    return any(str(text).partition("~")[0] == PASTED for text in values.get("cmp", ()))


def remember(page: str, params: Sequence[Param]) -> None:
    """Keep this run's values and write them into the address."""
    store = _store()
    known = (*SHARED, *params)
    now = {p.key: _fresh(st.session_state[p.key]) for p in known if p.key in st.session_state}
    store["values"].update(now)
    if store["set"]:
        store["told"] = time.monotonic()
    store["drawn"], store["seen"], store["set"] = page, now, {}
    query = query_of(now, params)
    if query != _incoming():
        st.query_params.from_dict({key: value if len(value) > 1 else value[0] for key, value in query.items()})


def _reset_per_model() -> None:
    """After another model was picked: set the keys of a model to their defaults, unless they changed too."""
    store = _store()
    for params in (SHARED, *store["params"].values()):
        for param in params:
            if param.per_model:
                store["values"].pop(param.key, None)
                if param.key in st.session_state and st.session_state[param.key] == store["seen"].get(param.key):
                    st.session_state[param.key] = _fresh(param.default)


def put(**values: Any) -> None:
    """Set address keys from a callback, such as that of a button that loads an example."""
    for key, value in values.items():
        st.session_state[key] = value
        _store()["values"][key] = value
        _store()["set"][key] = value


def name_anew(key: str, names: Sequence[str]) -> None:
    """Call this before a control whose options have names that depend on other controls.

    The browser keeps the name of the chosen option and would go on showing an old name. If the names have changed, this
    sets the value again, so that the browser shows the new name.
    """
    known = f"_names_{key}"
    if st.session_state.get(known) != list(names):
        st.session_state[known] = list(names)
        st.session_state[key] = st.session_state[key]


def not_drawn(*keys: str) -> None:
    """Note that this run leaves out these controls: the browser forgets them, so their value is sent again later."""
    for key in keys:
        st.session_state.pop(f"_names_{key}", None)
