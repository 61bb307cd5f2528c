"""The Lab's figures."""

from __future__ import annotations

from viz.lab import plot_run


def test_the_run_in_hand_is_named_at_its_end_in_bold() -> None:
    fig = plot_run(
        train=[(1, 3.7)], validation=[(0, 4.1), (7, 3.1)], recorded=None, levels=[], n_steps=53, color="#0072b2"
    )
    (label,) = fig.layout.annotations
    assert label.text.endswith("<b>this run 3.10</b>")
    assert "&lt;" not in label.text
