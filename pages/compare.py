"""Any number of models side by side; each may have its own cache format and tensor parallelism."""

from attention.memory import (
    allocation,
    comparison,
    curves,
    history,
)
from attention.memory.load import Load
from ui import controls, frame, params, quiz
from ui.sections import compare as sections
from ui.sections import compare_why
from viz import compare as figures

SHOWN_FIRST = [
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-8B",
    "google/gemma-3-27b-pt",
    "deepseek-ai/DeepSeek-V3",
]
FAMILIES = history.families_with_history()
PARAMS = (
    params.Param(
        "cmp",
        SHOWN_FIRST,
        lambda text: comparison.column(text).write(),
        f"models of the catalogue, or {comparison.PASTED}",
        many=True,
    ),
    params.choice("cmp_view", list(comparison.VIEWS), "total"),
    params.integer("cmp_tp", 1, 1, allocation.MAX_TP),
    params.choice("cmp_family", FAMILIES, "Llama"),
    compare_why.PARAM,
    *quiz.keys("compare"),
    params.Param("cmp_first", "", lambda text: text and comparison.column(text).write(), "a model of the comparison"),
    params.Param("cmp_second", "", lambda text: text and comparison.column(text).write(), "a model of the comparison"),
)

with frame.page(
    "compare",
    title="Compare",
    lead="Put models side by side: what each keeps per token, and how its cache grows with the context.",
    params=PARAMS,
):
    columns = sections.columns_picker("cmp")
    context_column, batch_column, format_column, view_column, more_column = frame.bar(3, 1, 1.2, 2.4, 0.9)
    with context_column:
        context = controls.context()
    with batch_column:
        batch = controls.batch()
    with format_column:
        fmt = controls.cache_format()
    with view_column:
        view = sections.view_picker("cmp_view")
    with more_column, frame.more():
        tp = sections.more("cmp", "cmp_tp")
    pasted, pasted_config = sections.pasted(columns)
    load = Load(context, batch, fmt)
    rows = comparison.compare(columns, load, tp, pasted)
    contexts = curves.contexts_up_to(max(context, 2**20), context, shortest=min(256, context), per_octave=3)
    picture = comparison.curves(rows, contexts, view)
    sections.metrics(rows, context)
    frame.chart(
        figures.plot_over_context(picture),
        key="compare",
        filename="kv-cache-compared",
        alt=sections.alt(rows, context),
    )
    with frame.details():
        sections.examples()
        sections.notes(rows, picture)
        with frame.guard():
            sections.ranked(rows, view, context)
        with frame.guard():
            sections.table(rows)
        with frame.guard():
            compare_why.show(rows, load)
        with frame.guard():
            sections.side_by_side(rows, pasted_config)
        with frame.guard():
            sections.history("cmp_family", FAMILIES, load)
        quiz.find_out("compare", rows=rows)
