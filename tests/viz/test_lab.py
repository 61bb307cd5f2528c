"""The Lab's figures."""

from __future__ import annotations

import pytest

from attention.llm import uptraining
from viz.lab import plot_run
from viz.lab_real import plot_tokens


def test_the_run_in_hand_is_named_at_its_end_in_bold() -> None:
    fig = plot_run(
        train=[(1, 3.7)], validation=[(0, 4.1), (7, 3.1)], recorded=None, levels=[], n_steps=53, color="#0072b2"
    )
    (label,) = fig.layout.annotations
    assert label.text.endswith("<b>this run 3.10</b>")
    assert "&lt;" not in label.text


def test_the_real_model_s_curves_are_the_record_s() -> None:
    found = uptraining.read()
    assert found is not None
    fig = plot_tokens([(c.start, c.distilled, c.tokens, c.losses) for c in found.courses], found.original_curve)
    level, *curves = fig.data
    assert set(level.y) == {found.original_curve}
    assert [(c.name, list(c.y), c.x[-1]) for c in curves] == [
        (c.name, list(c.losses), c.tokens[-1] / 1e6) for c in found.courses
    ]
    assert {c.line.dash for c in curves} == {"solid", "dot"}
    assert not plot_tokens([], 1.0).data


def test_what_the_lab_says_of_the_real_model_holds() -> None:
    found = uptraining.read()
    assert found is not None
    calibrated, mean = found.course("calibrated", False), found.course("mean", False)
    # all numbers are of one text, and the curve starts where the conversion stands
    assert found.converted["calibrated"] == pytest.approx(calibrated.before, abs=1e-6)
    assert found.converted["mean"] == pytest.approx(mean.before, abs=1e-6)
    assert calibrated.before - found.original < 0.6 < 7 < mean.before - found.original
    # "about where the calibrated one starts"; "a help to the mean, none here to the calibrated one"
    assert abs(mean.after - calibrated.before) < 0.1
    assert found.course("mean", True).after < mean.after
    assert found.course("calibrated", True).after >= calibrated.after
    assert uptraining.read(uptraining.FILE.with_name("none.json")) is None
