"""Parts of the page Engines: its controls, the ledger, the lines that an engine will print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import streamlit as st

from attention import foreign_text
from attention.catalog import published
from attention.engines import lines
from attention.engines.ledger import Entry
from attention.engines.rules import NAMES, conv_kernel
from attention.formats import WEIGHT_BITS
from attention.memory.load import Load
from attention.serving.fit import MAX_COUNT, Setup, budget
from attention.units import binary_bytes, counted, held, ratio
from ui import controls, downloads, frame, lesson, model_weights, state
from ui.components.bars import bars
from ui.controls import ChosenModel
from ui.sections.engines_log import explanation
from viz import engines as figures

__all__ = ["controls_bar", "explanation", "memory", "metrics", "picture", "prediction", "table"]

_GIB = 2**30
EXAMPLES = {
    "windows: Gemma 3 27B": {"model": "google/gemma-3-27b-pt", "context": 131072},
    "sparse: DeepSeek-V3.2": {"model": "deepseek-ai/DeepSeek-V3.2", "context": 131072},
    "recurrent: Qwen3-Next": {"model": "Qwen/Qwen3-Next-80B-A3B-Instruct", "context": 131072},
}


class Chosen(NamedTuple):
    """The choices besides model and load. `conv_kernel`: columns of the model's convolution, None if it has none."""

    engine: str
    accelerator: str
    n_ranks: int
    weight_dtype: str
    conv_kernel: int | None


class Memory(NamedTuple):
    """`n_bytes`: memory for the cache on each accelerator, None if it is not known. `says`: the reason, in words."""

    n_bytes: int | None
    says: str


def controls_bar() -> tuple[ChosenModel, Load, Chosen]:
    """Draw the controls: model, engine, accelerators and context; the others under More."""
    columns = frame.bar(2.3, 1.3, 1.8, 0.8, 2.2, 0.9)
    with columns[5], frame.more():
        controls.exact_context()
        batch = controls.batch()
        fmt = controls.cache_format()
        weights = st.selectbox("Weights", list(WEIGHT_BITS), key="eng_weights", help="How the weights are stored.")
        st.number_input(
            "Memory for the cache, GiB", 0.0, 100_000.0, key="eng_memory", step=1.0, format="%.2f",
            help="On each accelerator; 0: what weights and 1 GiB of reserve leave of 90 % of its memory.",
        )  # fmt: skip
    with columns[0]:
        model = controls.model_picker()
    engine = columns[1].selectbox(
        "Engine", lines.PREDICTED, key="eng_engine", format_func=NAMES.__getitem__,
        help="Whose start-up lines are predicted below; the figure has all of them.",
    )  # fmt: skip
    labels = {row.id: row.label for row in published.accelerators()}
    accelerator = columns[2].selectbox("Accelerator", list(labels), key="eng_acc", format_func=labels.__getitem__)
    count = columns[3].number_input("Count", 1, MAX_COUNT, key="eng_count", help="Ranks of tensor parallelism.")
    with columns[4]:
        context = controls.context(model)
    frame.name_shown(NAMES[engine])
    chosen = Chosen(engine, str(accelerator), int(count), str(weights), conv_kernel(model.config))
    return model, Load(context, batch, fmt), chosen


def memory(model: ChosenModel, chosen: Chosen, load: Load) -> Memory:
    """Memory for the cache on each accelerator: as typed, otherwise what the weights leave free."""
    if typed := float(st.session_state["eng_memory"]):
        return Memory(round(typed * _GIB), "as typed under More")
    spec = model_weights.if_known(model)
    if spec.n_parameters is None:
        return Memory(
            None, "How many parameters this model has is not known: type the memory for the cache under More."
        )
    row = published.accelerator(chosen.accelerator)
    shown = ", as its driver shows them," if row.driver_mib else ""
    if row.driver_mib:
        row = replace(row, memory_bytes=row.driver_mib * 2**20)
    try:
        space = budget(spec, Setup(row, chosen.n_ranks, chosen.weight_dtype, load.kv_dtype))
    except ValueError as error:
        return Memory(None, f"{error}.")
    if space.state_room_bytes <= 0:
        weights = binary_bytes(space.weight_bytes)
        return Memory(None, f"The weights, {weights} on each, leave no memory for a cache on {_where(chosen)}.")
    weights = binary_bytes(space.weight_bytes)
    says = f"90 % of {binary_bytes(space.memory_bytes)}{shown} less {weights} of weights and 1 GiB"
    return Memory(space.state_room_bytes, says)


def _where(chosen: Chosen) -> str:
    label = published.accelerator(chosen.accelerator).label
    return f"{chosen.n_ranks} × {label}" if chosen.n_ranks > 1 else label


def metrics(entries: Sequence[Entry], chosen: Chosen) -> None:
    """Draw the numbers: the least memory, what the engine sets aside, what a step reads, what the engine prints."""
    by_name = {entry.name: entry for entry in entries}
    least, name = entries[0], NAMES[chosen.engine]
    with frame.numbers():
        _metric("The states need at least", binary_bytes(least.n_bytes or 0), None)
        _metric(f"{name} sets aside", *_beside(by_name[name], least))
        _metric("A step reads", *_beside(by_name["read by a step"], least))
        if printed := by_name.get(f"as {name} prints it"):
            if printed.tokens is None:
                _metric(f"{name} prints", "–", "see below")
            else:
                _metric(f"{name} prints, on one accelerator", f"{printed.tokens:,} tokens", "see what they mean below")


def _beside(entry: Entry, least: Entry) -> tuple[str, str | None]:
    if entry.n_bytes is None:
        return "–", "no rule is known"
    if entry.n_bytes == least.n_bytes or not least.n_bytes:
        return binary_bytes(entry.n_bytes), "the same"
    return binary_bytes(entry.n_bytes), ratio(entry.n_bytes / least.n_bytes)


def _metric(label: str, value: str, beside: str | None) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


def picture(entries: Sequence[Entry], model: ChosenModel, load: Load) -> None:
    """Draw a bar for every definition whose rule is known, and examples below."""
    shown = [entry for entry in entries if entry.n_bytes is not None]
    what = counted(load.batch, "sequence") + f" of {held(load.context)}"
    bars(
        figures.ledger(shown), key="eng_ledger", filename="ledger",
        alt=f"{what} of {model.label}: "
        + "; ".join(f"{entry.name} {binary_bytes(entry.n_bytes or 0)}" for entry in shown),
    )  # fmt: skip
    st.html(figures.legend(shown))
    st.caption(lesson.text("engines_figure"))
    with st.container(horizontal=True, key="eng_examples", vertical_alignment="center", gap="small"):
        st.html('<span class="hs-try">Try</span>', width="content")
        for number, (name, values) in enumerate(EXAMPLES.items()):
            st.button(name, key=f"eng_example_{number}", type="tertiary", on_click=state.put, kwargs=values)


def table(entries: Sequence[Entry], model: ChosenModel, load: Load, memory: Memory) -> None:
    """Draw the exact numbers, each with its rule and source; a definition without a rule says so."""
    st.subheader(_ledger_finding(entries), anchor=False)
    st.caption(lesson.text("engines_ledger"))
    rows: list[dict[str, Any]] = [
        {
            "definition": entry.name,
            "bytes": entry.n_bytes,
            "rule": entry.says,
            "source": entry.source,
        }
        for entry in entries
    ]
    # a table on the page holds 64-bit numbers at most; the downloads hold every digit
    huge = any((entry.n_bytes or 0) >= 2**63 for entry in entries)
    frame.records(
        [row | {"bytes": float(row["bytes"] or 0)} for row in rows] if huge else rows,
        key="eng_table",
        height="content",
        column_config={"bytes": st.column_config.NumberColumn(format="localized"), "rule": {"width": "large"}},
    )
    downloads.buttons(
        rows, "ledger", model=model.key, context=load.context, batch=load.batch, kv_dtype=load.kv_dtype,
        memory_bytes=memory.n_bytes,
    )  # fmt: skip


def _ledger_finding(entries: Sequence[Entry]) -> str:
    """The heading: what engines set aside at least and at most, beside what the states need."""
    least = entries[0].n_bytes
    aside = [(entry.n_bytes, entry.name) for entry in entries if entry.kind == "reserved" and entry.n_bytes is not None]
    if not aside or not least:
        return "Every figure, exactly"
    (low, first), (high, last) = min(aside), max(aside)
    if low == high == least:
        return f"All {len(aside)} engines with a rule set aside exactly what the states need"
    if ratio(low / least) == ratio(high / least):
        return f"All {len(aside)} engines with a rule set aside {ratio(high / least)} what the states need"
    return f"Engines set aside {ratio(low / least)} ({first}) to {ratio(high / least)} ({last}) what the states need"


def prediction(model: ChosenModel, chosen: Chosen, load: Load, memory: Memory) -> None:
    """Draw the lines that the engine will print, each with its meaning.

    Raises:
        ValueError: no rule is known, or there is no memory for the cache.
    """
    name = NAMES[chosen.engine]
    if memory.n_bytes is None and chosen.engine != "llama.cpp":
        raise ValueError(memory.says)
    found = lines.predict(
        chosen.engine, model.spec, chosen.conv_kernel, memory.n_bytes, load.context, load.batch, chosen.n_ranks,
        None if load.kv_dtype == model.spec.model_dtype else load.kv_dtype,
    )  # fmt: skip
    st.subheader(f"{name} will print {counted(len(found), 'line')} about its cache", anchor=False)
    if memory.n_bytes is not None:
        st.caption(
            f"On {_where(chosen)} with **{binary_bytes(memory.n_bytes)}** for the cache on each: {memory.says}. "
            "An engine measures what is left and may find a little more or less."
        )
    for line in found:
        st.code(line.text, language=None, wrap_lines=True)
        st.caption(foreign_text.markdown(f"{line.says}."))
