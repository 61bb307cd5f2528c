"""The table of a decode step says what was measured."""

from __future__ import annotations

import pytest

from attention.timing.step_cases import StepResult, StepShape
from bench import step


def timed(times_floor: float, plain: tuple[float, ...] = ()) -> StepResult:
    return StepResult(
        StepShape("GQA-8", 32, 8, 32768, 1, "bfloat16", "cpu", 10, 5), 0.02, 0.0, None,
        0.02 / times_floor, 1e-3, "", (0.02,) * 7, plain_times_s=plain,
    )  # fmt: skip


@pytest.mark.parametrize(("times_floor", "verdict"), [(1.25, "1.25 | ✓"), (1.35, "1.35 | ✗")])
def test_a_row_holds_the_limit(times_floor: float, verdict: str) -> None:
    assert f"| {verdict} |" in step.row(timed(times_floor))


def test_a_row_compares_round_by_round() -> None:
    assert "| 1.60 s | 2.50 | 2.50–2.50 | yes |" in step.row(timed(1.25, (0.05,) * 7))
    assert "| – | – | – | yes |" in step.row(timed(1.25))
    assert step.HEAD.count("|") == step.row(timed(1.25)).count("|")
