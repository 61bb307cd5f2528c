"""Parts of the comparison page: the choice of columns, the numbers, the table, a family's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from attention import foreign_text, tables
from attention.catalog import published
from attention.formats import FORMATS
from attention.memory import comparison
from attention.memory import history as lineage
from attention.memory.allocation import MAX_TP
from attention.memory.comparison import Column, Compared, Comparison
from attention.memory.differences import differences
from attention.memory.load import Load
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, held, ratio, significant
from ui import controls, downloads, frame, model_weights, state
from ui.components.model_search import model_search, models_search
from ui.components.ranking import ranking
from ui.params import DEFAULT_MODEL
from viz import compare as bars
from viz import compare_history as figures

_GIB, _KIB = 2**30, 2**10
_VIEW_NAMES = {"total": "total bytes", "token": "per token", "billion": "per 10⁹ parameters", "mha": "against MHA"}


EXAMPLES: dict[str, dict[str, Any]] = {
    "Llama 2 7B vs 3 8B": {
        "cmp": ["meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B"], "context": 8192, "cmp_view": "total",
    },
    "Why Gemma 3 is small at 128k": {
        "cmp": ["google/gemma-2-27b", "google/gemma-3-27b-pt", "Qwen/Qwen3-32B"], "context": 131_072,
        "cmp_view": "token",
    },
    "MLA against GQA": {
        "cmp": ["deepseek-ai/DeepSeek-V3", "meta-llama/Llama-3.1-405B", "zai-org/GLM-4.5"], "context": 32_768,
        "cmp_view": "mha",
    },
    "What an fp8 cache saves": {
        "cmp": ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B~fp8", "meta-llama/Llama-3.1-8B~q4_0"],
        "context": 32_768, "cmp_view": "total",
    },
}  # fmt: skip


def examples() -> None:
    """Draw buttons, each of which loads an example."""
    with st.container(horizontal=True, key="cmp_examples", vertical_alignment="center", gap="small"):
        st.html('<span class="hs-try">Try</span>', width="content")
        for number, (name, values) in enumerate(EXAMPLES.items()):
            st.button(name, key=f"cmp_example_{number}", type="tertiary", on_click=state.put, kwargs=values)


def columns_picker(key: str) -> list[Column]:
    """Draw the field for the models to compare, one chip each. Return the chosen columns in order."""
    chosen = [comparison.column(text) for text in st.session_state[key]]
    with st.container(key="bar-models"):
        labels = {column.write(): column.label for column in chosen}
        others = {comparison.PASTED: comparison.PASTED_LABEL}
        models_search("Models", key, labels, comparison.MAX_COLUMNS, others=others)
    return chosen


def pasted(columns: Sequence[Column]) -> tuple[ModelSpec | None, Mapping[str, Any] | None]:
    """(layers, configuration) of the pasted config.json if a column needs it; (None, None) otherwise, or if it fails.

    The field for the configuration stands below the row of controls.
    """
    if all(col.model != comparison.PASTED for col in columns):
        return None, None
    with frame.guard():
        model = controls.pasted()
        return model_weights.if_known(model), model.config
    return None, None


def view_picker(key: str) -> str:
    """Draw the choice of what the figure shows of each cache; a key of ``comparison.VIEWS``."""
    return str(
        st.selectbox(
            "Show", list(comparison.VIEWS), key=key, format_func=_VIEW_NAMES.__getitem__,
            help="Whole caches, or normalised: per token held, per 10⁹ parameters, as a share of the model's own MHA.",
        )
    )  # fmt: skip


def more(key: str, tp_key: str) -> int:
    """Draw the controls under More: the ranks of all models, which it returns, and a column with its own settings."""
    st.number_input("Ranks (TP), all models", 1, MAX_TP, key=tp_key, help="Ranks of tensor parallelism.")
    st.markdown("**Add a column with its own settings**")
    st.session_state.setdefault("cmp_add_model", DEFAULT_MODEL)
    model_search("Model", "cmp_add_model", others={comparison.PASTED: comparison.PASTED_LABEL})
    st.selectbox("Cache format", list(FORMATS), index=list(FORMATS).index("fp8"), key="cmp_add_kv")
    st.number_input("Ranks (TP)", 1, MAX_TP, 1, key="cmp_add_tp")
    st.button("Add column", on_click=_add, args=(key,), width="stretch", key="cmp_add")
    return int(st.session_state[tp_key])


def _add(key: str) -> None:
    now = st.session_state
    tp = int(now["cmp_add_tp"])
    text = Column(now["cmp_add_model"], now["cmp_add_kv"], tp if tp > 1 else None).write()
    if text not in now[key] and len(now[key]) < comparison.MAX_COLUMNS:
        now[key] = [*now[key], text]


def metrics(rows: Sequence[Compared], context: int) -> None:
    """Draw the largest and the smallest cache, and the ratio between them."""
    known = [row for row in rows if row.state_bytes]
    if not known:
        return
    least, most = (f(known, key=lambda row: row.state_bytes or 0) for f in (min, max))
    with frame.numbers():
        _metric(f"Largest at {held(context)}: {foreign_text.markdown(most.label)}", most)
        if most is not least:
            _metric(f"Smallest: {foreign_text.markdown(least.label)}", least)
            factor = (most.state_bytes or 0) / (least.state_bytes or 1)
            st.metric("Between them", ratio(factor), width="content")


def _metric(label: str, row: Compared) -> None:
    beside = f"{row.sharing}, {binary_bytes(row.bytes_per_token or 0)} for one more token"
    st.metric(label, binary_bytes(row.state_bytes or 0), beside, delta_color="off", delta_arrow="off", width="content")


def alt(rows: Sequence[Compared], context: int) -> str:
    """The figure in words."""
    sizes = ", ".join(f"{r.label} {binary_bytes(r.state_bytes)}" for r in rows if r.state_bytes is not None)
    return f"Cache over the context, a line per model. At {counted(context, 'token')}: {sizes or 'no model chosen'}."


def ranked(rows: Sequence[Compared], view: str, context: int) -> None:
    """Draw the models ranked by size at the chosen context; models of one size share a bar."""
    found = comparison.ranked(rows, view)
    if not found:
        return
    first, *others = (foreign_text.markdown(label) for _, label in found[0].members)
    also = f" and {counted(len(others), 'other')}" if others else ""
    verb = ("takes", "keeps") if not others else ("take", "keep")
    what = f"{verb[0]} most of MHA" if view == "mha" else f"{verb[1]} the most"
    st.subheader(f"Ranked at {held(context)}: {first}{also} {what}", anchor=False)
    label = f"{comparison.VIEWS[view]} at {held(context)}"
    ranking(bars.ranking(found, view), key="cmp_ranking", label=label, figure="compare")
    if any(len(row.members) > 1 for row in found):
        st.caption("Models with equally large caches share a bar.")


def side_by_side(rows: Sequence[Compared], pasted_config: Mapping[str, Any] | None) -> None:
    """Draw two of the models number by number, with the configuration's field and the rule for each number."""
    known = {row.key: row for row in rows if row.state_bytes is not None}
    if len(known) < 2:
        return
    st.subheader("What differs between two, field by field", anchor=False)
    by_size = sorted(known, key=lambda key: known[key].state_bytes or 0)
    chosen = []
    for column, (key, label, own) in zip(
        st.columns(2), (("cmp_first", "One", by_size[-1]), ("cmp_second", "The other", by_size[0])), strict=True
    ):
        if st.session_state[key] not in known:
            st.session_state[key] = ""
        names = {"": "the largest cache" if key == "cmp_first" else "the smallest"}
        names |= {name: row.label for name, row in known.items()}
        state.name_anew(key, list(names.values()))
        picked = column.selectbox(label, list(names), key=key, format_func=names.__getitem__)
        chosen.append(known[picked or own])
    left, right = chosen
    found = differences(left, right, _config(left, pasted_config), _config(right, pasted_config))
    one, other = (row.label for row in chosen)
    if one == other:
        other += " (again)"
    st.html(bars.differences_table([row for row in found if row.differs], one, other))
    equal = "; ".join(f"{row.what} {foreign_text.markdown(row.left)}" for row in found if not row.differs)
    if equal:
        st.caption(f"The same in both: {equal}.")


def _config(row: Compared, pasted_config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    model = comparison.column(row.key).model
    return pasted_config if model == comparison.PASTED else published.model(model).config


def notes(rows: Sequence[Compared], picture: Comparison) -> None:
    """Draw the notes: why something is missing, and what the diamonds mean."""
    for row in rows:
        if row.note:
            st.caption(f"**{foreign_text.markdown(row.label)}**: {foreign_text.markdown(row.note)}")
    if picture.left_out and picture.view == "billion":
        st.caption(f"Without a known parameter count: {foreign_text.markdown(', '.join(picture.left_out))}.")
    if picture.curves:
        equal = (
            " ◆ stands where the cache equals the weights in bf16." if any(c.crossover for c in picture.curves) else ""
        )
        st.caption(f"What to see: a lower line is a smaller cache; one that flattens has reached its windows.{equal}")


def table(rows: Sequence[Compared]) -> None:
    """Draw all figures as a table that can be sorted, with its downloads."""
    st.subheader("Side by side", anchor=False)
    if not rows:
        st.caption("Choose models above; each becomes a row here.")
        return
    shown: dict[str, list[Any]] = {
        "model": [r.label for r in rows],
        "released": [r.released for r in rows],
        "sharing": [r.sharing for r in rows],
        "layers": [r.kinds for r in rows],
        "heads": [f"{r.n_heads} / {r.n_kv_heads}" if r.n_heads else "" for r in rows],
        "head size": [r.head_dim for r in rows],
        "format": [r.kv_dtype for r in rows],
        "KiB / token": [_over(r.bytes_per_token, _KIB) for r in rows],
        "GiB": [_over(r.state_bytes, _GIB) for r in rows],
        "GiB / rank": [_over(r.bytes_per_rank, _GIB) for r in rows],
        "equals weights at": [r.crossover for r in rows],
        "KiB / token / 10⁹": [_over(r.bytes_per_token_per_billion, _KIB) for r in rows],
        "% of own MHA": [_over(r.of_own_mha, 0.01) for r in rows],
    }
    number = st.column_config.NumberColumn
    frame.table(
        shown,
        key="cmp_table",
        column_config={
            "heads": st.column_config.Column(help="Query heads / K/V heads of the most frequent layer with attention"),
            "KiB / token": number(format="%.1f", help="For one more token at this context"),
            "GiB": number(format="%.3f", help="What the states of the batch need"),
            "GiB / rank": number(format="%.3f", help="What an engine sets aside on each rank, in pages of 16 tokens"),
            "KiB / token / 10⁹": number(format="%.2f", help="Average per token held and 10⁹ parameters"),
            "% of own MHA": number(format="%.1f", help="Against the same model with one K/V head per query head"),
            "equals weights at": number(
                format="localized",
                help="Tokens at which the caches equal all weights in bf16; –: never, or the parameters are not known",
            ),
        },
    )
    data = [row.as_row() for row in rows]
    with st.container(horizontal=True, vertical_alignment="center"):
        downloads.buttons(data, "compare")
        with st.popover("Markdown"):
            st.code(tables.to_markdown(_markdown_rows(rows)), language="markdown")


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _markdown_rows(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    return [
        {
            "model": r.label,
            "sharing": r.sharing,
            "layers": r.kinds,
            "format": r.kv_dtype,
            "one more token": _size(r.bytes_per_token),
            f"at {held(r.context)}, batch {r.batch}": _size(r.state_bytes),
            "per rank": _size(r.bytes_per_rank),
            "equals weights at": "" if r.crossover is None else f"{r.crossover:,}",
            "of own MHA": "" if r.of_own_mha is None else f"{significant(100 * r.of_own_mha)} %",
        }
        for r in rows
    ]


def _size(n: int | None) -> str:
    return "" if n is None else binary_bytes(n)


def history(key: str, families: Sequence[str], load: Load) -> None:
    """Draw the history of a family: each model's cache, by date of release."""
    st.subheader("How sharing evolved", anchor=False)
    family = st.pills("Family", families, key=key, required=True, label_visibility="collapsed") or families[0]
    models = lineage.lineage(family, load.context, load.kv_dtype)
    frame.chart(
        figures.plot_lineage(models, family=family),
        key="cmp_lineage",
        filename=f"kv-cache-history-{family.lower()}",
        alt=f"{family} by release, each model's cache as a share of full-length multi-head attention: "
        + ", ".join(f"{m.label} ({m.released}) {significant(100 * m.share)} %" for m in models),
    )
    st.caption(
        f"At {held(load.context)}, against multi-head attention over the whole context in every layer: shared heads, "
        "windows, shared layers, latent vectors and recurrent layers all count. Larger markers, more parameters."
    )
