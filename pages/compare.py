"""Any number of models side by side, each with its own cache format and tensor parallelism if wanted."""

from attention import allocation, cache_curves, comparison, lineage
from ui import compare_parts, controls, frame, params
from viz import compare as figures

STORY = [
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-8B",
    "google/gemma-3-27b-pt",
    "deepseek-ai/DeepSeek-V3",
]
FAMILIES = lineage.families_with_history()
PARAMS = (
    params.Param(
        "cmp",
        STORY,
        lambda text: comparison.column(text).write(),
        f"models of the catalogue, or {comparison.PASTED}",
        many=True,
    ),
    params.choice("cmp_view", list(comparison.VIEWS), "total"),
    params.integer("cmp_tp", 1, 1, allocation.MAX_TP),
    params.choice("cmp_family", FAMILIES, "Llama"),
)

with frame.page(
    "compare",
    title="Compare",
    lead="Put models side by side: what each keeps per token, and how its cache grows with the context.",
    params=PARAMS,
):
    columns = compare_parts.columns_picker("cmp")
    context_column, batch_column, kv_column, view_column, more_column = frame.bar(3, 1, 1.2, 2.4, 0.9)
    with context_column:
        context = controls.context()
    with batch_column:
        batch = controls.batch()
    with kv_column:
        kv = controls.kv_format()
    with view_column:
        view = compare_parts.view_picker("cmp_view")
    with more_column, frame.more():
        tp = compare_parts.more("cmp", "cmp_tp")
    pasted = compare_parts.pasted(columns)
    rows = comparison.compare(columns, context, batch, kv, tp, pasted)
    contexts = cache_curves.contexts_up_to(max(context, 2**20), context, shortest=min(256, context), per_octave=3)
    picture = comparison.curves(rows, contexts, view)
    compare_parts.metrics(rows, context)
    frame.chart(
        figures.plot_over_context(picture),
        key="compare",
        filename="kv-cache-compared",
        alt=compare_parts.alt(rows, context),
    )
    with frame.details():
        compare_parts.examples()
        compare_parts.notes(rows, picture)
        with frame.guard():
            compare_parts.table(rows)
        with frame.guard():
            compare_parts.history("cmp_family", FAMILIES, context, kv)
