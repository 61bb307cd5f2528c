"""The lab's recorded run of a published model: its loss with fewer K/V heads, before and after training."""

from __future__ import annotations

from math import exp

import streamlit as st

from attention.llm import uptraining
from attention.llm.uptraining import MERGE_ALONE, Record
from ui import frame, lesson
from viz import lab_real

UNIT = "Held-out loss in nats per token, on all {windows} windows."


@st.cache_data(show_spinner=False, max_entries=1)
def _read(changed_ns: int) -> Record | None:
    return uptraining.read()


def section() -> None:
    """Draw the numbers before training, the loss against tokens, and how it was measured; nothing without a record."""
    path = uptraining.FILE
    found = _read(path.stat().st_mtime_ns if path.exists() else 0)
    if found is None:
        return
    sizes, courses = found.text["sizes"], found.courses
    calibrated, mean = found.course("calibrated", False), found.course("mean", False)
    most = f"{calibrated.tokens[-1] / 1e6:.2f}"
    lesson.show(
        "lab_real",
        calibrated_cost=f"{calibrated.before - found.original:.2f}",
        mean_cost=f"{mean.before - found.original:.2f}",
        original=f"{found.original:.2f}",
        calibrated=f"{calibrated.before:.2f}",
        mean=f"{mean.before:.2f}",
        likely_calibrated=f"{100 * exp(found.original - calibrated.before):.0f}",
        likely_mean=f"{100 * exp(found.original - mean.before):.2f}",
        tokens=most,
        mean_after=f"{mean.after:.2f}",
        calibrated_after=f"{calibrated.after:.2f}",
        distilled_calibrated=f"{found.course('calibrated', True).after:.2f}",
        distilled_mean=f"{found.course('mean', True).after:.2f}",
    )
    windows = found.text["held_out_tokens"] // sizes["length"]
    with st.container(key="lab_real_numbers", horizontal=True, gap="medium"):
        for name, value in (
            ("Original, 3 K/V heads", found.original),
            ("Calibrated, untrained", found.converted["calibrated"]),
            ("The same without the fit", found.converted[MERGE_ALONE]),
            ("Mean, untrained", found.converted["mean"]),
        ):
            above = None if value == found.original else f"{value - found.original:+.2f} to the original"
            unit = UNIT.format(windows=windows)
            st.metric(name, f"{value:.2f}", delta=above, delta_color="off", delta_arrow="off", help=unit)
    frame.chart(
        lab_real.plot_tokens(
            [(c.start, c.distilled, c.tokens, c.losses) for c in courses],
            found.original_curve,
            "SmolLM2-135M with one K/V head, recorded",
        ),
        key="lab_real",
        filename="uptraining-smollm2",
        alt=f"Held-out loss over {most} million tokens of uptraining. At the end: "
        + "; ".join(f"{c.name} {c.losses[-1]:.2f}" for c in courses)
        + f"; the original {found.original_curve:.2f}.",
    )
    st.caption(lesson.text("lab_real_figure"))
    lesson.show(
        "lab_real_provenance",
        device=found.about["device"],
        created=found.created,
        torch=found.about["torch"],
        command=found.about["command"],
        held_out=found.text["held_out"],
        held_out_tokens=f"{found.text['held_out_tokens']:,}",
        curve_windows=sizes["held_out"],
        length=sizes["length"],
        batch=f"{sizes['batch'] * sizes['length']:,}",
        docstrings=f"{found.text['docstrings']:,}",
    )
