"""Why not one K/V head for all? Three answers on the page with the slider from MHA to MQA: the cut, copies, quality."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from attention import sharing
from attention.catalog import published
from attention.serving import ranks as serving
from attention.spec import Kind, Layer, ModelSpec
from attention.units import counted, ratio
from ui import lesson
from ui.components.bars import bars
from ui.components.ranks import ranks
from ui.sections.spectrum import table_one_values
from viz import bars as figures

LARGER = ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-405B")
"""One family from small to large: the number of query heads grows, the number of K/V heads stays."""
PAPER_HEADS = 8
"""Query heads of the model in which multi-query attention was first tried (arXiv:1911.02150, section 4.1)."""


class Cut(NamedTuple):
    """A model's query heads and its own K/V heads; MQA would keep one."""

    label: str
    n_heads: int
    n_kv_heads: int


def cuts(spec: ModelSpec, label: str) -> tuple[Cut, ...]:
    """The MQA paper's model, the models of LARGER and the chosen model, from fewest query heads to most."""
    found = [Cut("MQA paper, 2019", PAPER_HEADS, PAPER_HEADS)]
    for row in (published.model(name) for name in LARGER):
        assert row.spec is not None
        found.append(Cut(row.label, row.spec.n_heads, row.spec.n_kv_heads))
    if label not in {cut.label for cut in found}:
        found.append(Cut(label, spec.n_heads, 0 if _latent(spec) else spec.n_kv_heads))
    return tuple(sorted(found, key=lambda cut: cut.n_heads))


def _latent(spec: ModelSpec) -> bool:
    return any(layer.kind is Kind.LATENT for layer, _ in spec.groups)


def show(spec: ModelSpec, label: str, chosen: int) -> None:
    """Draw the three answers.

    Args:
        chosen: the slider's number of K/V heads; 0 for a latent vector.
    """
    layer = spec.attention_layer
    assert layer is not None
    st.subheader(f"Why not MQA? In {label} it would cut {counted(spec.n_heads, 'K/V head')} to 1", anchor=False)
    lesson.show("why_not_mqa_cut")
    found = cuts(spec, label)
    text = "; ".join(f"{cut.label} {cut.n_heads} times" for cut in found)
    bars(figures.cuts(found, label), key="cuts", filename="mqa-cut", alt=f"MQA would keep one of so many heads: {text}")
    _copies(layer, chosen or layer.n_heads)
    lesson.show("why_not_mqa_quality", **table_one_values())


def _copies(layer: Layer, chosen: int) -> None:
    """Draw the accelerators as a picture in steps, and the choice of their number."""
    plain = sharing.layer_with(layer, None)
    options = serving.tp_options(plain)
    state = st.session_state
    if state["spec_tp"] not in options:
        state["spec_tp"] = max(n for n in options if n <= state["spec_tp"])
    tp = int(state["spec_tp"])
    found = serving.sharings(layer, tp)
    last = found[-1]
    least = next(dealt for dealt in reversed(found) if dealt.ranks.copies == 1)
    if last.ranks.copies > 1:
        fewest = sharing.name(layer.n_heads, least.n_kv_heads)
        title = f"On {tp} accelerators MQA keeps {last.ranks.copies} copies, and no less than {fewest} on each"
    else:
        title = "On one accelerator nothing is copied: MQA saves all that it promises"
    st.subheader(title, anchor=False)
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.selectbox(
        "Accelerators", options, key="spec_tp",
        help="Tensor parallelism: every layer is split among so many, its query heads dealt out evenly.",
    )  # fmt: skip
    with right:
        lesson.show(
            "why_not_mqa_copies",
            tp=counted(tp, "accelerator"),
            saved=ratio(1 / float(last.needed)) if last.needed < 1 else "nothing more",
        )
    ranks(found, layer.n_heads, chosen=chosen, key="ranks")
