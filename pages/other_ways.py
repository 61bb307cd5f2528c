"""Other methods that make the cache small: windows, a latent vector, shared layers."""

from ui import controls, frame, quiz
from ui.components.windows import windows
from ui.sections import other_ways as sections
from ui.sections.waterfall import why_so_small

LEAD = "Play the window: layers that look back a short way keep little, and a few full layers keep the rest."

with frame.page(
    "other_ways", title="Windows, latent vectors, shared layers", lead=LEAD, params=quiz.keys("other_ways")
):
    model, load, _ = controls.compute_bar()
    windows(*sections.windowed(model.spec, model.label), key="windows")
    with frame.details():
        with frame.guard():
            why_so_small(model.spec, load, key="o_waterfall")
        sections.words(model.spec, model.label, load)
        quiz.find_out("other_ways", spec=model.spec, load=load)
