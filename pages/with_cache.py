"""Generation without a cache and with one: what is computed again, and what is kept instead."""

from attention.memory.recompute import passes
from ui import controls, frame, quiz
from ui.components.recompute import recompute
from ui.sections import with_cache as sections

LEAD = "Play it: without a cache, every new token has the keys and values of all tokens computed again."

with frame.page("with_cache", title="What a cache saves", lead=LEAD, params=quiz.keys("with_cache")):
    model, load, _ = controls.compute_bar()
    found = passes(load)
    recompute(key="recompute")
    with frame.details():
        sections.metrics(model.spec, load, found)
        sections.words(model.spec, model.label, load, found)
        quiz.find_out("with_cache", load=load)
