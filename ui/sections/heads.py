"""The parts around the head map: the step in words, the heads of each accelerator, the layer's projections."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention.formats import cache_format
from attention.memory.footprint import layer_bytes
from attention.memory.layer_groups import LayerGroup
from attention.memory.load import Load
from attention.memory.projections import Projections, projections
from attention.serving import ranks
from attention.sharing import with_n_kv_heads
from attention.spec import Kind, Layer, ModelSpec
from attention.units import binary_bytes, counted, parameters, ratio, significant
from ui import lesson
from ui.components.head_map import describe
from viz import ranks as figures


def variant(layer: Layer, n_kv_heads: int | None) -> Layer:
    """The layer with `n_kv_heads` K/V heads (None: as many as query heads)."""
    return with_n_kv_heads(ModelSpec("layer", (layer,)), n_kv_heads).layers[0]


def metrics(shown: Layer, mha: Layer, load: Load, spec: ModelSpec) -> None:
    """Draw two numbers: this layer's cache of one sequence, and the parameters of its projections."""
    fmt = cache_format(load.kv_dtype)
    own, most = (layer_bytes(layer, load.context, fmt, spec.model_dtype) for layer in (shown, mha))
    st.metric(
        f"This layer's {'cache' if shown.n_heads else 'state'}, one sequence of {counted(load.context, 'token')}",
        binary_bytes(own),
        _against(shown, own, most),
        delta_color="off",
        delta_arrow="off",
    )
    matrices = projections(shown, spec.hidden_size)
    if matrices is not None:
        saved = matrices.saved / matrices.mha_parameters
        st.metric(
            "Parameters of its projections",
            parameters(matrices.n_parameters),
            f"{significant(100 * saved)} % fewer than MHA" if matrices.saved else "as MHA",
            delta_color="off",
            delta_arrow="off",
        )


def _against(shown: Layer, own: int, most: int) -> str | None:
    if shown.kind is Kind.NONE:
        return "nothing is kept"
    if not shown.n_heads:
        return "one fixed size, whatever the context"
    if not own:
        return "reads an earlier layer's"
    return "as MHA" if own == most else f"{ratio(most / own)} smaller than MHA"


def step(stage: int, shown: Layer, mha: Layer, load: Load, spec: ModelSpec) -> None:
    """Draw the chosen step of decoding in words, with the layer's numbers."""
    summary = describe(shown.n_heads, shown.n_kv_heads, shown.kind)
    fmt = cache_format(load.kv_dtype)
    state = shown.key_value
    if state is None:
        why = "Its queries read the cache that an earlier layer keeps." if shown.kind is Kind.SHARED else ""
        lesson.show("heads_other", summary=summary, why=why)
        return
    token, mha_token = (layer_bytes(x, 1, fmt, spec.model_dtype) - _fixed(x, spec, load) for x in (shown, mha))
    if shown.kind is Kind.LATENT:
        lesson.show(
            "heads_latent",
            summary=summary,
            elements=f"{state.elements_per_position:,}",
            token_bytes=binary_bytes(token),
            format=load.kv_dtype,
        )
        return
    lesson.show(
        f"heads_step_{stage}",
        summary=summary,
        n_heads=shown.n_heads,
        n_kv_heads=shown.n_kv_heads,
        asked="One head asks" if shown.group_size == 1 else f"{shown.group_size} heads ask",
        head_dim=shown.k_head_dim,
        v_head_dim=shown.v_head_dim,
        hidden=f"{spec.hidden_size or shown.n_heads * shown.k_head_dim:,}",
        group_size=shown.group_size,
        context=f"{state.positions(load.context):,}",
        before=f"{state.positions(load.context) - 1:,}",
        token_bytes=binary_bytes(token),
        mha_token_bytes=binary_bytes(mha_token),
        read_bytes=binary_bytes(layer_bytes(shown, load.context, fmt, spec.model_dtype)),
        mha_read_bytes=binary_bytes(layer_bytes(mha, load.context, fmt, spec.model_dtype)),
        format=load.kv_dtype,
    )


def _fixed(layer: Layer, spec: ModelSpec, load: Load) -> int:
    return layer_bytes(layer, 0, cache_format(load.kv_dtype), spec.model_dtype)


def heads_per_rank(shown: Layer) -> None:
    """Draw accelerators as boxes: the K/V heads that each holds, and the part of the cache that is copied."""
    if not shown.n_kv_heads:
        st.subheader("No heads to deal out to accelerators", anchor=False)
        st.caption("This layer keeps no keys and values of its own, so there are no heads to deal out.")
        return
    finding = st.container()
    columns = st.columns([1.2, 1.2, 1, 3], gap="small", vertical_alignment="bottom")
    tp = _one_of(
        columns[0], "Tensor parallel", ranks.tp_options(shown), "h_tp",
        "Ranks that K/V heads are dealt out to; more ranks than heads means copies.",
    )  # fmt: skip
    dcp = _one_of(
        columns[1], "Decode context", ranks.dcp_options(shown, tp), "h_dcp",
        "Ranks among which the tokens of one head are dealt out, in place of copies.",
    )  # fmt: skip
    dp = columns[2].number_input(
        "Data parallel", 1, ranks.MAX_DP, key="h_dp", help="Groups with requests of their own, each set up like this."
    )
    found = ranks.ranks(shown, tp, dcp, int(dp))
    lost = f"{found.lost} of this layer's cache is copies" if found.copies > 1 else "nothing is kept twice"
    finding.subheader(f"On {counted(tp, 'accelerator')} {lost}", anchor=False)
    st.html(figures.boxes(found, shown.n_kv_heads, dcp, shown.kind is Kind.LATENT))
    hatched = ", a hatched one a copy of what an earlier one holds" if found.copies > 1 else ""
    st.markdown(f"**{found.says}**")
    st.caption(f"What to see: a box is an accelerator, a square in it a K/V head that it keeps{hatched}.")


def _one_of(place: Any, label: str, options: tuple[int, ...], key: str, why: str) -> int:
    """Draw a choice among the numbers that this layer allows. Another number becomes the next smaller allowed one."""
    state = st.session_state
    if state[key] not in options:
        state[key] = max(n for n in options if n <= state[key])
    return int(place.selectbox(label, options, key=key, help=why))


def projection_table(shown: Layer, spec: ModelSpec) -> None:
    """Draw the shapes of the weight matrices beside those of MHA."""
    found = projections(shown, spec.hidden_size)
    if found is None:
        st.subheader("This layer projects in its own way", anchor=False)
        st.caption("Its matrices are not those of MHA, and they are no part of what a cache needs.")
        return
    saved = significant(100 * found.saved / found.mha_parameters)
    st.subheader(
        f"Sharing takes {saved} % of its parameters away: W_K and W_V narrow, W_Q and W_O stay"
        if found.saved
        else "Its four projections are those of MHA",
        anchor=False,
    )
    st.table(_table(found, shown))
    st.caption(
        "What to see: a matrix has as many rows as its heads have numbers together. Fewer K/V heads shorten W_K and "
        "W_V; W_Q and W_O have the query heads."
        if found.saved
        else "What to see: each of the four matrices has as many rows and columns as in MHA."
    )
    if found.assumed:
        st.caption(f"The hidden size is not given; {found.hidden_size:,} = query heads × head size is assumed.")


def _table(found: Projections, shown: Layer) -> list[dict[str, str]]:
    full = {"W_Q": shown.n_heads * shown.k_head_dim, "W_K": shown.n_heads * shown.k_head_dim}
    full |= {"W_V": shown.n_heads * shown.v_head_dim, "W_O": found.hidden_size}
    return [
        {
            "Matrix": m.name,
            "Shape": f"{m.rows:,} × {m.columns:,}",
            "Parameters": parameters(m.n_parameters),
            "In MHA": f"{full[m.name]:,} × {m.columns:,}",
        }
        for m in found.matrices
    ]


def where(group: LayerGroup, n_layers: int) -> str:
    """A sentence that lists the layers of the model that look like this one, at most twelve."""
    if len(group.indices) == n_layers:
        return "The one layer looks like this." if n_layers == 1 else f"All {n_layers} layers look like this."
    shown = ", ".join(str(i) for i in group.indices[:12])
    return f"Layers {shown}{' …' if len(group.indices) > 12 else ''} of {n_layers} look like this (counted from 0)."
