"""The lessons' figures."""

from __future__ import annotations

import pytest

from viz.code import plot_trap
from viz.heads_learn import (
    Curve,
    RoleTable,
    plot_roles,
    plot_similarity,
    plot_training,
)
from viz.published import plot_models
from viz.spectrum import Costs, plot_costs, plot_quality, plot_token_cost
from viz.why import Traffic, plot_traffic


def test_empty_input_gives_titled_figures() -> None:
    figures = [
        plot_traffic(Traffic([], [], [], None)),
        plot_costs(Costs([], [], [], [], [], {}, 1, {})),
        plot_quality([]),
        plot_token_cost([]),
        plot_trap([]),
        plot_roles(RoleTable([], [], [])),
        plot_similarity([], 1),
        plot_training([]),
        plot_models([], 7),
    ]
    for figure in figures:
        assert figure.layout.title.text
        assert not figure.data


def test_traffic_marks_the_crossing_inside_the_figure_only() -> None:
    inside = plot_traffic(Traffic([1, 100], [50, 50], [1, 100], 51))
    outside = plot_traffic(Traffic([1, 100], [50, 50], [0, 10], 501))
    assert len(inside.layout.shapes) == 1
    assert len(outside.layout.shapes) == 0
    assert list(inside.data[1].y) == [1, 100]


def test_costs_are_per_cent_of_mha() -> None:
    texts = {"KV cache": ["a", "b"], "attention's parameters": ["a", "b"], "time per step, at least": ["a", "b"]}
    texts["time measured here"] = ["", "b"]
    figure = plot_costs(Costs([1, 5], ["1", "5"], [0.2, 1], [None, None], [0.3, 1], {5: 1.0}, 5, texts))
    lines = {trace.name: list(trace.y) for trace in figure.data}
    assert lines == {"KV cache": [20, 100], "time per step, at least": [30, 100], "time measured here": [None, 100]}
    assert figure.layout.shapes[0].x0 == pytest.approx(0.6)


def test_likeness_frames_the_heads_that_share() -> None:
    figure = plot_similarity([[1, 0.5, 0.3, 0.2]] * 4, 2)
    assert [(s.x0, s.x1) for s in figure.layout.shapes] == [(-0.5, 1.5), (1.5, 3.5)]
    assert figure.data[0].z[0][0] is None


def test_roles_say_how_many_times_chance() -> None:
    figure = plot_roles(RoleTable(["bracket"], [[0.4, 0.02]], [[0.1, 0.02]]))
    assert list(figure.data[0].text[0]) == ["40 %<br>4.0×", "2 %<br>1.0×"]


def test_training_has_a_line_per_model() -> None:
    figure = plot_training([Curve("MHA", [10, 20], [2.0, 1.5]), Curve("GQA-2", [10, 20], [2.1, 1.6])])
    assert [trace.name for trace in figure.data] == ["MHA", "GQA-2"]
    assert len({trace.line.color for trace in figure.data}) == 2
