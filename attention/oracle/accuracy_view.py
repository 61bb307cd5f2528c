"""The accuracy results as a page shows them: totals, and the error of each well-known wrong rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attention.catalog import published
from attention.errors import check_choice
from attention.oracle.accuracy import Check, Results, RuleError


class Summary(NamedTuple):
    """Totals of the checks.

    Attributes:
        asked: models whose own code was run; exact: those of them without an unexplained byte.
        explained: exact models with a difference that a rule predicts.
        unexplained_bytes: sum over all models.
        not_asked: models whose own code cannot be run.
        golden: published figures; agreeing: those of them that the computed figures equal.
    """

    asked: int
    exact: int
    explained: int
    unexplained_bytes: int
    not_asked: int
    golden: int
    agreeing: int


def summary(results: Results) -> Summary:
    """The totals of the results."""
    asked = [c for c in results.checks if c.allocated_bytes is not None]
    exact = [c for c in asked if not c.unexplained_bytes]
    return Summary(
        len(asked),
        len(exact),
        sum(bool(c.difference_bytes) for c in exact),
        sum(c.unexplained_bytes or 0 for c in asked),
        len(results.checks) - len(asked),
        len(results.golden),
        sum(g.agrees for g in results.golden),
    )


class Mistake(NamedTuple):
    """One wrong rule and the models for which it is wrong: ``factors[i]`` is the rule's bytes / exact bytes."""

    rule: str
    text: str
    models: tuple[str, ...]
    factors: tuple[float, ...]


def mistakes(results: Results, family: str | None = None) -> tuple[Mistake, ...]:
    """The rules that are wrong for some model (of `family` if given), the largest error first."""
    out = []
    for rule, text in results.about["rules"].items():
        rows = [r for r in results.rules if r.rule == rule and family in (None, r.family)]
        if rows:
            names = tuple(_label(r) for r in rows)
            out.append(Mistake(rule, text, names, tuple(r.rule_bytes / r.exact_bytes for r in rows)))
    return tuple(sorted(out, key=lambda m: -max(_error_factor(f) for f in m.factors)))


def _label(row: RuleError) -> str:
    try:
        return published.model(row.model).label
    except ValueError:
        # the results name a model that the catalogue does not have
        return row.model


def _error_factor(factor: float) -> float:
    # a factor of 0 counts as the largest factor of the figure
    return max(factor, 1 / factor) if factor else 64.0


def shown_checks(checks: Sequence[Check], which: str, family: str | None = None) -> list[Check]:
    """Checks to list: "all", "differences" (explained or not) or "not asked"; of `family` if given.

    Raises:
        ValueError: `which` is another word.
    """
    check_choice("which", which, WHICH)
    kept = [c for c in checks if family in (None, c.family)]
    if which == "differences":
        return [c for c in kept if c.difference_bytes]
    return [c for c in kept if c.allocated_bytes is None] if which == "not asked" else kept


WHICH = ("all", "differences", "not asked")
