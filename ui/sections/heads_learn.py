"""Texts, models and numbers of the page What the heads learn."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from attention import sharing
from attention.tiny.config import DATA, MODELS
from attention.tiny.head_roles import group_similarity, named, recorded_roles
from attention.tiny.numpy_forward import (
    Maps,
    TinyWeights,
    load_named,
    maps,
)
from attention.tiny.role_places import ROLES
from attention.tiny.text import (
    EXAMPLES,
    MAX_BYTES,
    MAX_TYPED,
    Cleaned,
    clean,
    held_out_sample,
)
from attention.units import ratio
from ui.params import Param, text
from viz.heads_learn import Curve, RoleTable

OWN, HELD_OUT = "Your own text …", "From a held-out file"
CHOICES = (*EXAMPLES, HELD_OUT, OWN)
LABELS = {name: sharing.name(8, k) for name, k in MODELS.items()}


def _own(text: str) -> str:
    if not text.strip() or len(text) > MAX_TYPED:
        raise ValueError(f"{len(text):,} characters")
    return text


BYTE = text("learn_byte", "", r"\d{1,3}|", "the number of a byte of the text")
HEADS = text("learn_heads", "", r"(\d(-\d)*|none|)", "numbers of heads such as 0-3, or none")
"""The byte whose attention is drawn, and the heads that are shown; empty: the page chooses them."""
OWN_TEXT = Param("learn_own", "for i in range(10):\n    print(i)\n", _own, f"text of 1 to {MAX_TYPED:,} characters")


@st.cache_resource(show_spinner=False, max_entries=4)
def weights(name: str) -> TinyWeights:
    return load_named(name)


@st.cache_data(show_spinner=False, max_entries=24)
def _maps(name: str, text: bytes) -> tuple[Any, Any]:
    found = maps(weights(name), text)
    return found.attention, found.log_probabilities


def maps_of(name: str, text: bytes) -> Maps:
    """A model's attention maps of a text; the last few are cached."""
    return Maps(*_maps(name, text))


@st.cache_data(show_spinner=False, max_entries=1)
def _sample() -> tuple[str, bytes]:
    return held_out_sample()


@st.cache_data(show_spinner=False, max_entries=1)
def roles() -> dict[str, Any]:
    return recorded_roles()


@st.cache_data(show_spinner=False, max_entries=1)
def records() -> dict[str, Any]:
    """Name -> the content of NAME.json, for each shipped model."""
    return {name: json.loads((DATA / f"{name}.json").read_text()) for name in MODELS}


def chosen_text(choice: str, box: Any) -> Cleaned:
    """The text of a choice; the field for the visitor's own text is drawn into `box`.

    Raises:
        ValueError: the visitor's text is empty or far too long.
    """
    if choice == OWN:
        with box:
            # no max_chars: with it the browser cuts a longer text and says nothing
            typed = st.text_area(
                f"Text, at most {MAX_BYTES} bytes", key=OWN_TEXT.key, height=110, on_change=_adopt_text
            )
            if cut := st.session_state.get("_learn_cut"):
                st.caption(cut)
        return clean(typed or "")
    if choice == HELD_OUT:
        name, text = _sample()
        return Cleaned(text, f"from {name} of this server's Python, which no model was trained on")
    return clean(EXAMPLES[choice])


def forget_byte() -> None:
    """Callback of the controls that change the text: forget the byte, whose number means nothing in another text."""
    st.session_state[BYTE.key] = ""


def look(byte: int | None, heads: list[int] | None) -> None:
    """Callback of the view: keep the chosen byte and heads; None means not changed."""
    if byte is not None:
        st.session_state[BYTE.key] = str(byte)
    if heads is not None:
        st.session_state[HEADS.key] = "-".join(map(str, heads)) or "none"


def chosen_byte(length: int) -> int | None:
    """The chosen byte, None if there is none. If the text has no such byte, say so and return None."""
    byte = st.session_state[BYTE.key]
    if byte and int(byte) >= length:
        st.session_state[BYTE.key] = ""
        st.caption(f"The text has no byte {int(byte)}, only 0 to {length - 1}; another one is shown.")
        return None
    return int(byte) if byte else None


def shown_heads(model: str, layer: int) -> list[int]:
    """The heads whose arcs are drawn: the chosen ones, otherwise those of :func:`shown_at_first`."""
    chosen = st.session_state[HEADS.key]
    if not chosen:
        return shown_at_first(model, layer)
    n_heads = len(roles()["models"][model]["roles"]["previous"]["score"][layer])
    return [] if chosen == "none" else sorted({int(head) for head in chosen.split("-") if int(head) < n_heads})


def _adopt_text() -> None:
    """Callback: cut a text that is too long for an address, and say so."""
    forget_byte()
    typed = str(st.session_state.get(OWN_TEXT.key, ""))
    st.session_state.pop("_learn_cut", None)
    if len(typed) > MAX_TYPED:
        st.session_state[OWN_TEXT.key] = typed[:MAX_TYPED]
        st.session_state["_learn_cut"] = (
            f"The text had {len(typed):,} characters: the first {MAX_TYPED:,} are kept, the most that is accepted."
        )


def head_names(model: str, layer: int) -> list[str]:
    """For each head its clearest role on held-out text, or ""."""
    record = roles()["models"][model]
    found = [named(record, layer, head) for head in range(len(record["roles"]["previous"]["score"][layer]))]
    return [f"{n.role.key} {100 * n.score:.0f} %" if n else "" for n in found]


def shown_at_first(model: str, layer: int) -> list[int]:
    """The heads with the clearest roles: one for each K/V head in GQA, two of all heads in MHA and MQA."""
    record = roles()["models"][model]
    n_heads, n_kv_heads = len(record["roles"]["previous"]["score"][layer]), MODELS[model]
    found = [(named(record, layer, head), head) for head in range(n_heads)]
    order = [h for n, h in sorted(found, key=lambda f: -(f[0].score / f[0].chance if f[0] else 0))]
    if not 1 < n_kv_heads < n_heads:
        return sorted(order[:2])
    size = n_heads // n_kv_heads
    return [next(h for h in order if h // size == kv) for kv in range(n_kv_heads)]


def role_table(model: str, layer: int) -> RoleTable:
    record = roles()["models"][model]["roles"]
    scores, chances = [], []
    for role in ROLES:
        entry = record[role.key]
        scores.append(entry["score"][layer])
        chances.append([max(entry["uniform"], by_distance) for by_distance in entry["by_distance"][layer]])
    return RoleTable([role.label for role in ROLES], scores, chances)


def role_finding(model: str, layer: int) -> str:
    """The clearest role of a layer, as a heading."""
    record = roles()["models"][model]
    found = [(named(record, layer, head), head) for head in range(len(record["roles"]["previous"]["score"][layer]))]
    best, head = max(found, key=lambda f: f[0].score / f[0].chance if f[0] else 0.0)
    if best is None:
        return f"No head of layer {layer + 1} has a clear role"
    times = ratio(best.score / best.chance)
    return (
        f"Layer {layer + 1}, head {head}: {best.role.label}, {100 * best.score:.0f} % of its attention, {times} chance"
    )


def definitions() -> str:
    return "\n".join(f"- **{role.label}**: {role.definition}" for role in ROLES)


def layer_similarity(model: str, layer: int) -> list[list[float]]:
    """[n_heads][n_heads]: likeness of the heads of one layer."""
    record = roles()["models"][model]
    n = len(record["roles"]["previous"]["score"][layer])
    rows = record["similarity"][layer * n : (layer + 1) * n]
    return [row[layer * n : (layer + 1) * n] for row in rows]


def similarity_title(model: str, layer: int) -> str:
    """The heading of the matrix: its finding."""
    import numpy as np

    within, between = group_similarity(np.array(layer_similarity(model, layer)), MODELS[model])
    if within is None or between is None:
        return f"The heads of layer {layer + 1} have a mean likeness of {within if between is None else between:.2f}"
    more = "more" if round(within, 2) > round(between, 2) else "no more"
    return f"Heads that share a K/V head are {more} alike: {within:.2f} against {between:.2f}"


def similarity_finding(model: str, layer: int) -> str:
    """The finding of the matrix, in a sentence."""
    import numpy as np

    within, between = group_similarity(np.array(layer_similarity(model, layer)), MODELS[model])
    if within is None:
        return f"In this layer, heads with a K/V head each have a mean likeness of {between:.2f}."
    if between is None:
        return (
            f"All heads of this layer read one K/V head, and their mean likeness is {within:.2f}, not 1: the keys are "
            "the same, the questions are not."
        )
    return (
        f"In this layer, heads that share a K/V head have a mean likeness of {within:.2f}, heads that do not "
        f"{between:.2f}. Sharing keys does not make heads the same: each still asks its own question."
    )


def curves() -> list[Curve]:
    out = []
    for name, record in records().items():
        points = record["curve"]
        out.append(Curve(LABELS[name], [p["step"] for p in points], [p["validation_loss"] for p in points]))
    return out


def losses() -> str:
    """The stored models' validation losses as a Markdown table."""
    rows = ["| Model | K/V heads | Parameters | Validation loss, nats per byte |", "|---|---|---|---|"]
    for name, record in records().items():
        rows.append(
            f"| {LABELS[name]} | {record['config']['n_kv_heads']} | {record['n_parameters']:,} "
            f"| {record['validation']['loss']:.3f} |"
        )
    return "\n".join(rows)


def losses_title() -> str:
    """A heading that compares MHA with MQA."""
    loss = {name: record["validation"]["loss"] for name, record in records().items()}
    ends = loss["mqa"] - loss["mha"]
    return f"One K/V head for all cost {ends:.3f} nats a byte here" if ends > 0 else "Sharing cost nothing here"


def losses_finding() -> str:
    """A sentence about each model's loss against MHA's."""
    loss = {name: record["validation"]["loss"] for name, record in records().items()}
    mha = loss["mha"]
    parts = [
        f"{LABELS[name]} came out {abs(value - mha):.3f} {'better' if value < mha else 'worse'}"
        for name, value in loss.items()
        if name != "mha"
    ]
    return f"Beside MHA, {', '.join(parts[:-1])} and {parts[-1]}."
