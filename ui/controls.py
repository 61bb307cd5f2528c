"""The controls that pages share. Each has a key, is bound to the address, and returns a plain value."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import streamlit as st

from attention import sharing
from attention.formats import FORMATS
from attention.memory.load import MAX_BATCH, MAX_CONTEXT, Load
from attention.memory.model_words import findable
from attention.serving.speculation import MAX_DRAFT_TOKENS
from attention.spec import ModelSpec, uniform_spec
from attention.units import tokens
from ui import cached, frame, state
from ui.components.model_search import model_search
from ui.params import DEFAULT_MODEL, PASTED, TYPED

MAX_PASTE = 1_000_000
"""The most characters of a pasted config.json."""
_PICKER = {TYPED: "Type sizes …", PASTED: "Paste config.json …"}


@dataclass(frozen=True)
class ChosenModel:
    """The model that the model picker returns.

    Attributes:
        key: catalogue id, "custom" or "config".
        label: the model's name as the page shows it.
        spec: the model as a list of layers.
        row: the catalogue's row; None for a typed or pasted model.
        config: the configuration that `spec` was read from: pasted, uploaded or the catalogue's; None for typed sizes.
            A part of a page that needs a configuration takes this one, so the whole page uses the same file.
    """

    key: str
    label: str
    spec: ModelSpec
    row: Any = None
    config: Mapping[str, Any] | None = None


def compute_bar(*extra: float) -> tuple[ChosenModel, Load, list[Any]]:
    """Draw the usual row: model, context, batch, cache format; exact numbers under More.

    Args:
        extra: widths of further columns for the page's own controls, relative to 3 for the model's; at most two.

    Returns:
        (model, load, the further columns).

    Raises:
        ValueError: see :func:`model_picker`.
    """
    columns = frame.bar(3, 3, 1.1, 1.4, *extra, 1.2)
    with columns[-1], frame.more():
        exact_context()
    with columns[0]:
        model = model_picker()
    with columns[1]:
        held = context(model)
    with columns[2]:
        sequences = batch()
    with columns[3]:
        stored = cache_format()
    return model, Load(held, sequences, stored), columns[4:-1]


def model_picker(label: str = "Model") -> ChosenModel:
    """Draw the search over the catalogue, with the fields for typed sizes or a pasted config.json; the chosen model.

    Raises:
        ValueError: the typed sizes or the pasted configuration do not describe a model.
    """
    if st.session_state.get("model") not in {*_PICKER, *(row.id for row in findable())}:
        st.session_state["model"] = DEFAULT_MODEL
    key = model_search(label, "model", others=_PICKER)
    if key in (TYPED, PASTED):
        frame.name_shown("typed sizes" if key == TYPED else "pasted config.json")
    if key == TYPED:
        return ChosenModel(TYPED, "typed sizes", _typed())
    if key == PASTED:
        return pasted()
    from attention.catalog import published

    row = published.model(str(key))
    frame.name_shown(row.label)
    if row.spec is None:
        with frame.below_bar():
            st.caption(f"{row.label}: {row.unpublished} Type the sizes you want to try.")
        return ChosenModel(row.id, f"{row.label}, sizes typed", _typed(), row)
    return ChosenModel(row.id, row.label, row.spec, row, row.config)


def _typed() -> ModelSpec:
    with frame.below_bar():
        columns = st.columns(5, vertical_alignment="bottom")
        layers = columns[0].number_input("Layers", 1, 10_000, key="layers")
        heads = columns[1].number_input("Query heads", 1, 1024, key="heads")
        options = sharing.divisors(int(heads))
        if st.session_state.get("kv_heads") not in options:
            st.session_state["kv_heads"] = max(d for d in options if d <= st.session_state.get("kv_heads", 1))
        kv_heads = columns[2].select_slider("K/V heads", options, key="kv_heads", help="Divisors of the query heads.")
        head_dim = columns[3].number_input("Head size", 1, 2**20, key="head_dim")
        window = columns[4].number_input("Window (0: none)", 0, MAX_CONTEXT, key="window")
    return uniform_spec(int(layers), int(heads), int(kv_heads), int(head_dim), int(window) or None)


def pasted() -> ChosenModel:
    """The model of the configuration in the text field: typed, pasted, from a file or from the address, the last of
    them.

    Raises:
        ValueError: there is none, or it does not describe a model.
    """
    carried = st.session_state["config"]
    if carried != st.session_state.get("_config_carried") or "_config" not in st.session_state:
        # the address has changed: a link, Back, Reload
        st.session_state["_config"] = unpack(carried)
        st.session_state["_config_carried"] = carried
    _mirror("config_text", st.session_state["_config"])
    with frame.below_bar():
        columns = st.columns([3, 1])
        # no max_chars: with it the browser cuts a longer text and says nothing
        columns[0].text_area(
            "A published config.json",
            key="config_text",
            height=120,
            on_change=_adopt_config,
            placeholder='{"model_type": …',
        )
        columns[1].file_uploader("or its file", type="json", key="config_file", on_change=_adopt_file)
        if refused := st.session_state.get("_config_refused"):
            st.warning(refused)
    text = st.session_state["_config"]
    if not text.strip():
        raise ValueError("Paste the config.json of a model above, or choose its file.")
    spec, config = cached.pasted(text)
    packed = pack(text)
    st.session_state["config"] = st.session_state["_config_carried"] = packed or ""
    if packed is None:
        with frame.below_bar():
            st.caption("This configuration is too long for an address, so a copied link will not carry it.")
    return ChosenModel(PASTED, "pasted config.json", spec, config=config)


def _adopt_config() -> None:
    """Callback: take the typed or pasted text as the configuration."""
    _take_config(str(st.session_state.get("config_text", "")), "The pasted text")


def _adopt_file() -> None:
    """Callback: take the uploaded file as the configuration and put it into the text field."""
    file = st.session_state.get("config_file")
    if file is None:  # the visitor removed the file: the configuration stays
        return
    try:
        _take_config(file.getvalue().decode("utf-8-sig"), "The file")
    except UnicodeDecodeError:
        _refuse_config("The file is not text in UTF-8.")


def _take_config(text: str, what: str) -> None:
    st.session_state.pop("_config_refused", None)
    if len(text) > MAX_PASTE:
        _refuse_config(f"{what} has {len(text):,} characters; accepted are at most {MAX_PASTE:,}.")
        return
    st.session_state["_config"] = text
    # the address must not keep the configuration from before; `pasted` writes this one there if it can be read
    st.session_state["config"] = st.session_state["_config_carried"] = ""


def _refuse_config(why: str) -> None:
    before = " The configuration from before is still shown." if st.session_state["_config"].strip() else ""
    st.session_state["_config_refused"] = why + before


@lru_cache(maxsize=32)
def pack(text: str, most: int = 12_000) -> str | None:
    """A configuration (JSON text) as URL-safe text; None if it would be longer than `most` characters."""
    compact = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    packed = base64.urlsafe_b64encode(zlib.compress(compact.encode(), 9)).decode().rstrip("=")
    return packed if len(packed) <= most else None


def unpack(packed: str) -> str:
    """The inverse of ``pack``, at most MAX_PASTE bytes. Text that ``pack`` did not write gives an empty string."""
    try:
        raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        return zlib.decompressobj().decompress(raw, MAX_PASTE).decode("utf-8", errors="replace")
    except (binascii.Error, zlib.error, ValueError):
        return ""


def context(model: ChosenModel | None = None, label: str = "Context") -> int:
    """Draw the slider of the tokens held: powers of two, and the present number if it is not one. Return the choice."""
    longest = model.spec.max_context if model and model.spec.max_context else 2**20
    chosen = st.session_state["context"]
    powers = [2**p for p in range(8, 33) if 2**p <= max(longest, 2**17)]
    options = sorted({*powers, chosen})
    _mirror("context_pick", chosen)
    st.select_slider(
        label,
        options,
        format_func=tokens,
        key="context_pick",
        on_change=_adopt,
        args=("context_pick", "context"),
        help="Tokens held in the cache. Exact numbers under More.",
    )
    frame.name_shown(f"{tokens(chosen)} tokens")
    return int(chosen)


def exact_context(label: str = "Context, exactly") -> None:
    _mirror("context_exact", st.session_state["context"])
    st.number_input(
        label, 1, MAX_CONTEXT, key="context_exact", on_change=_adopt, args=("context_exact", "context"),
        help=f"Any number of tokens up to {MAX_CONTEXT:,}.",
    )  # fmt: skip


def batch(label: str = "Batch") -> int:
    """Draw the field for the number of sequences that are decoded together, and return it."""
    sequences = int(st.number_input(label, 1, MAX_BATCH, key="batch", help="Sequences decoded together."))
    if sequences > 1:
        frame.name_shown(f"{sequences:,} sequences")
    return sequences


def cache_format(label: str = "Format") -> str:
    """Draw the choice of the cache's element format; a name of ``formats.FORMATS``."""
    chosen = str(
        st.selectbox(
            label,
            list(FORMATS),
            key="kv",
            help="How one element of the cached K and V is stored, with its scales if it has any.",
        )
    )
    frame.name_shown(chosen)
    return chosen


def divisor_slider(
    key: str,
    n_heads: int,
    own: int,
    label: str = "K/V heads",
    *,
    latent: bool = False,
    possible: Sequence[int] = (),
) -> int:
    """Draw a slider over the divisors of `n_heads`, 1 for MQA to `n_heads` for MHA; the number of K/V heads chosen.

    The result is one of the numbers on the slider, whatever the address says, so nothing after it checks it again.

    Declare the key as ``params.integer(key, 0, 0, 1024, per_model=True)``; 0 in the address means the model's own
    number.

    Args:
        own: the model's own number of K/V heads.
        latent: the model has a latent cache: its own value is 0, named MLA, and stands before the divisors.
        possible: the numbers of a model whose layers differ, in place of all divisors and of MLA's 0.
    """
    options = tuple(possible) or ((0,) if latent else ()) + sharing.divisors(n_heads)
    home = 0 if latent else own if own in options else options[-1]
    chosen = st.session_state.get(key) or home
    if chosen not in options:
        chosen = home
    st.session_state[key] = 0 if chosen == home else chosen
    pick = f"{key}_pick"
    names = {n: sharing.name(n_heads, n) if n else "MLA" for n in options}
    _mirror(pick, chosen)
    state.name_anew(pick, list(names.values()))
    st.select_slider(
        label,
        options,
        format_func=names.__getitem__,
        key=pick,
        on_change=_adopt,
        args=(pick, key),
        help="All divisors of the number of query heads: from one K/V head (MQA) to one each (MHA).",
    )
    frame.name_shown(names[chosen])
    return int(chosen)


def _mirror(widget: str, value: Any) -> None:
    # assign only a different value: the browser redraws an assigned widget, also while the user moves it
    if state.moved() or state.unheard() or st.session_state.get(widget) != value:
        st.session_state[widget] = value


def _adopt(widget: str, key: str) -> None:
    if widget in st.session_state:  # a widget that has just been replaced may still report a change
        st.session_state[key] = st.session_state[widget]


def segmented(label: str, options: Sequence[Any], key: str, **options_of_widget: Any) -> Any:
    """Draw a few options side by side, of which one is always chosen. Return the chosen one."""
    before = st.session_state[key]
    chosen = st.segmented_control(label, options, key=key, required=True, **options_of_widget)
    return before if chosen is None else chosen


def draft_tokens(key: str) -> int:
    """Draw the field for the number of tokens that a draft proposes for each step, and return it; 0 without a draft."""
    st.number_input(
        "Draft tokens", 0, MAX_DRAFT_TOKENS, key=key,
        help="Speculative decoding: tokens that a draft proposes for each step, which checks them all at once.",
    )  # fmt: skip
    return int(st.session_state[key])
