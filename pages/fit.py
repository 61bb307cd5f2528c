"""What fits on which accelerators, and how fast a decode step can be at best."""

from attention.catalog import published
from attention.formats import WEIGHT_BITS
from attention.memory.allocation import PAGE_TOKENS, WINDOW_POOLS
from attention.memory.load import MAX_CONTEXT
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.speculation import MAX_DRAFT_TOKENS
from ui import frame, params, quiz
from ui.sections import fit as sections
from ui.sections import fit_bounds, fit_controls
from viz import fit as figures

ACCELERATORS = [row.id for row in published.accelerators()]
PARAMS = (
    params.choice("f_acc", ACCELERATORS, "h100-sxm"),
    params.integer("f_count", 1, 1, MAX_COUNT),
    params.choice("f_weights", list(WEIGHT_BITS), "bf16"),
    params.integer("f_util", 90, 50, 100),
    params.number("f_reserve", 1.0, 0, 64),
    params.integer("f_page", PAGE_TOKENS, 1, 2**16),
    params.choice("f_pool", WINDOW_POOLS, "own"),
    params.integer("f_prompt", 0, 0, MAX_CONTEXT),
    params.number("f_price", 0.0, 0, fit_bounds.MAX_PRICE),
    *quiz.keys("fit"),
    params.integer("f_draft", 0, 0, MAX_DRAFT_TOKENS),
)

with frame.page(
    "fit",
    title="What fits",
    lead="Choose accelerators and see the longest context, the largest batch and the fewest you need.",
    params=PARAMS,
):
    model, own, chosen, context, batch = fit_controls.choose()
    spec = fit_controls.drafted(model, own)
    setup = Setup(**chosen, **fit_controls.current_assumptions())
    plan = serving.plan(spec, setup, context, batch)
    sections.verdict(plan, spec, setup, context, batch)
    prompt = fit_bounds.prefill(model, spec, setup, context)
    sections.metrics(plan, spec, setup, context, batch)
    frame.chart(
        figures.plot_fit_map(serving.fit_map(spec, setup, context, batch)),
        key="fit_map",
        filename="what-fits",
        alt=sections.alt(plan, setup, context, batch),
    )
    with frame.details():
        fit_controls.assumptions()
        fit_bounds.speeds(plan, setup, prompt)
        sections.memory(plan, setup)
        fit_bounds.step(plan, spec, setup, prompt)
        sections.drafting(model, own, plan, setup, context, batch)
        with frame.guard():
            fit_bounds.others(spec, setup, context, batch)
        quiz.find_out("fit", plan=plan, count=setup.count, context=context, batch=batch)
