"""The real model's heads over the reader's text: the maps to show, and the token and heads that are chosen at first."""

from __future__ import annotations

import base64
from typing import Any

import streamlit as st

from attention import foreign_text
from attention.llm import heads_view, place, recorded
from attention.llm.looked import Looked, unpacked
from ui import jobs, params
from ui.components import attention_view
from ui.params import Param

KEY = "real_heads"
LAYER = params.integer("real_layer", 0, 0, 999)
"""The layer, counted from 1; 0 for the layer that the page chooses."""
TOKEN = params.text("real_token", "", r"\d{1,3}|", "the number of a token of the text")
HEADS = params.text("real_heads", "", r"(\d{1,3}(-\d{1,3})*|none|)", "numbers of heads such as 0-3, or none")
PARAMS: tuple[Param, ...] = (LAYER, TOKEN, HEADS)


def payload(text: str | None, layer: int) -> dict[str, Any] | None:
    """The payload of a job that records the heads' maps; None without a text or a model."""
    if text is None or place.find() is None:
        return None
    return {"text": text, "first_layer": layer - 1, "device": "cpu"}


@st.cache_resource(scope="session", show_spinner=False)
def _kept() -> dict[str, Any]:
    return {}


def looked() -> Looked:
    """The maps of the last job that finished, otherwise the recorded ones."""
    job = jobs.current(KEY)
    kept = _kept()
    if job is not None and job.done and kept.get("job") is not job:
        found = Looked().take_in(job.results)
        # a job that was stopped or refused changes nothing
        if found.tokens and len(found.layers) == found.about["n_layers"]:
            kept["looked"] = found
        kept["job"] = job
    return kept.get("looked") or recorded.looked()


def note(found: Looked) -> str:
    """The origin of the maps, in a sentence."""
    origin = "A recorded look" if found is recorded.looked() else "Looked at on this server"
    return f"{origin}: {foreign_text.code(found.about['model'], 80)}, {len(found.tokens)} tokens."


def chosen_layer(found: Looked) -> int:
    """The layer to draw, counted from 1. Its address key is set to that number."""
    n_layers = int(found.about["n_layers"])
    layer = int(st.session_state[LAYER.key]) or heads_view.first_layer(recorded.roles(found.about["model"])) + 1
    st.session_state[LAYER.key] = min(layer, n_layers)
    return int(st.session_state[LAYER.key])


def draw(found: Looked, layer: int) -> None:
    """Draw the text and a layer's heads over it; `layer` counts from 1."""
    n_heads, n_kv_heads = found.about["n_heads"], found.about["n_kv_heads"]
    roles = recorded.roles(found.about["model"])
    named = heads_view.names(roles, layer - 1, n_heads)
    attention_view.draw(
        attention_view.View(
            packed=base64.b64encode(unpacked(found.layers[layer - 1])).decode("ascii"),
            glyphs=[heads_view.glyph(piece) for piece in found.tokens],
            names=[heads_view.spoken(piece) for piece in found.tokens],
            predictions=[heads_view.spoken_prediction(one) for one in found.predictions],
            unit="token",
            n_kv_heads=n_kv_heads,
            columns=n_heads // n_kv_heads if n_heads // n_kv_heads in (2, 3, 4) else 4,
        ),
        named,
        _shown(roles, layer - 1, n_heads),
        _token(found.tokens),
        key="real_attention",
        on_look=look,
    )


def look(token: int | None, heads: list[int] | None) -> None:
    """Callback of the view: keep the chosen token and heads; None means not changed."""
    if token is not None:
        st.session_state[TOKEN.key] = str(token)
    if heads is not None:
        st.session_state[HEADS.key] = "-".join(map(str, heads)) or "none"


def _token(tokens: list[str]) -> int:
    token = st.session_state[TOKEN.key]
    if token and int(token) < len(tokens):
        return int(token)
    return heads_view.first_token(tokens)


def _shown(roles: dict[str, Any], layer: int, n_heads: int) -> list[int]:
    chosen = st.session_state[HEADS.key]
    if chosen == "none":
        return []
    if chosen:
        return sorted({int(head) for head in chosen.split("-") if int(head) < n_heads})
    return heads_view.first_heads(roles, layer)


def nothing(job: jobs.Seen | None) -> None:
    """Draw nothing: the panel shows the progress, and the page draws the heads once all of them are there."""


def forget_choice() -> None:
    """Callback of the slider of layers: forget the chosen heads, which belong to the layer before."""
    st.session_state[HEADS.key] = ""
