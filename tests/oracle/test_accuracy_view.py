"""The accuracy page's numbers, from made-up results and from the checked-in ones."""

from dataclasses import replace

import pytest

from attention.oracle import accuracy, accuracy_view
from attention.oracle.accuracy import (
    Check,
    Golden,
    Results,
    RuleError,
)
from ui.sections.accuracy import RULE_NAMES
from viz.accuracy import plot_mistakes
from viz.figure import checked

ASKED = Check("m/a", "A", "a", "catalogue", 8192, "bf16", 700, 700, 0, 0, (), None, 11, "x")
WINDOWED = replace(ASKED, model="m/b", allocated_bytes=690, difference_bytes=-10, explanations=("window − 1",))
WRONG = replace(ASKED, model="m/c", allocated_bytes=713, difference_bytes=13, unexplained_bytes=13)
MUTE = replace(
    ASKED,
    model="m/d",
    family="D",
    allocated_bytes=None,
    difference_bytes=None,
    unexplained_bytes=None,
    reason="no code",
)
RESULTS = Results(
    {"rules": {"r1": "one rule", "r2": "another", "r3": "harmless"}},
    (ASKED, WINDOWED, WRONG, MUTE),
    (
        RuleError("Llama 3.1 8B", "A", "r1", 32_768, 100, 400, 3.0),
        RuleError("gone/model", "D", "r1", 32_768, 100, 50, -0.5),
        RuleError("gone/model", "D", "r2", 32_768, 100, 0, -1.0),
    ),
    (Golden("m/a", "q", 1, 7.0, "7 B", 7, True, "s"), Golden("m/b", "q", 1, 7.0, "7 B", 8, False, "s")),
)


def test_summary_counts_what_is_exact_and_what_is_not() -> None:
    assert accuracy_view.summary(RESULTS) == accuracy_view.Summary(3, 2, 1, 13, 1, 2, 1)


def test_mistakes_by_their_cost_without_harmless_rules() -> None:
    second, first = accuracy_view.mistakes(RESULTS)[::-1]
    assert (first.rule, second.rule) == ("r2", "r1")
    assert second.models == ("Llama 3.1 8B", "gone/model")
    assert second.factors == (4.0, 0.5)
    assert [m.rule for m in accuracy_view.mistakes(RESULTS, "A")] == ["r1"]


def test_lists_of_checks() -> None:
    assert [c.model for c in accuracy_view.shown_checks(RESULTS.checks, "differences")] == ["m/b", "m/c"]
    assert accuracy_view.shown_checks(RESULTS.checks, "not asked", "D") == [MUTE]
    assert len(accuracy_view.shown_checks(RESULTS.checks, "all")) == 4
    with pytest.raises(ValueError, match="which must be one of"):
        accuracy_view.shown_checks(RESULTS.checks, "some")


def test_the_figure_has_a_row_per_rule_and_a_dot_per_model() -> None:
    mistakes = accuracy_view.mistakes(RESULTS)
    fig = checked(plot_mistakes(mistakes, {"r1": "first"}))
    assert [len(trace.x) for trace in fig.data] == [len(m.models) for m in mistakes]
    assert fig.data[0].x[0] == 1 / 64  # a difference of 0 lies on the edge, and its hover says 0
    assert fig.data[0].customdata[0].endswith("0×")
    assert plot_mistakes((), {}).layout.title.text


def test_the_checked_in_results_can_be_drawn_and_every_rule_has_a_short_name() -> None:
    results = accuracy.load()
    assert set(RULE_NAMES) == set(results.about["rules"])
    checked(plot_mistakes(accuracy_view.mistakes(results), RULE_NAMES))
