"""What engines reserve and print: all definitions of the cache side by side, an engine's lines predicted before it
starts, and its log explained afterwards."""

from attention.catalog import published
from attention.engines import lines
from attention.engines.ledger import ledger
from attention.formats import WEIGHT_BITS
from attention.serving.fit import MAX_COUNT
from ui import frame, params, quiz
from ui.sections import engines as sections

ACCELERATORS = [row.id for row in published.accelerators()]
PARAMS = (
    params.choice("eng_engine", lines.PREDICTED, "vllm"),
    params.choice("eng_acc", ACCELERATORS, "h100-sxm"),
    params.integer("eng_count", 1, 1, MAX_COUNT),
    params.choice("eng_weights", list(WEIGHT_BITS), "bf16"),
    params.number("eng_memory", 0.0, 0, 100_000),
    *quiz.keys("engines"),
)

with frame.page(
    "engines",
    title="Engines",
    lead="One cache, many figures: what it needs, what engines set aside for it, and what their logs really say.",
    params=PARAMS,
):
    model, load, setup = sections.controls_bar()
    memory = sections.memory(model, setup, load)
    entries = ledger(model.spec, load, setup.conv_kernel, memory.n_bytes)
    sections.metrics(entries, setup)
    sections.picture(entries, model, load)
    with frame.details():
        sections.table(entries, model, load, memory)
        with frame.guard():
            sections.prediction(model, setup, load, memory)
        with frame.guard():
            sections.explanation(model, setup)
        quiz.find_out("engines", spec=model.spec, n_ranks=setup.n_ranks)
