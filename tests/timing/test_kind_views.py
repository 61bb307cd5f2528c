"""Timings of kinds of cache side by side: which are shown together, and which may be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attention.kernels.kinds.case import KindCase, KindResult
from attention.kernels.kinds.shapes import expanded, full, latent, quantised, shared, sparse, window
from attention.timing import kind_runs, kind_views
from attention.timing.kind_views import Place
from attention.timing.steadiness import STILL_TIMED

PLACE = Place(1024, 3, "float32")
SIZE: dict[str, Any] = {"context": 1024, "batch": 3, "dtype": "float32"}


def timed(case: KindCase, seconds: float, together: int = 1, name: str = "plain", unsteady: str = "") -> KindResult:
    """A result of five rounds that all took `seconds`."""
    case = replace(case, implementation=name, device="cpu")
    times = (seconds,) * 5
    return KindResult(case, seconds, 0.0, 1e-6, 1e-4, seconds / 2, "memory", 1e10, 1e11, times, together, "", unsteady)


def test_a_row_is_the_fastest_way_to_read_a_shape_beside_the_first_of_its_set() -> None:
    results = [
        timed(latent(**SIZE), 0.05),
        timed(latent(**SIZE), 0.02, name="triton"),
        timed(expanded(**SIZE), 0.31),
        timed(full(**SIZE), 0.07, together=2),
        timed(window(128, **SIZE), 0.01),
        KindResult(replace(latent(**SIZE), implementation="flash", device="cpu"), note="not run: no such head size"),
    ]
    assert [shown.place for shown in kind_views.of_results(results, "mla", "here", "now")] == [PLACE]
    assert kind_views.of_results(results[:1], "mla", "here", "now") == []
    rows = kind_views.rows(results, "mla", PLACE)
    assert [row.label for row in rows] == ["MLA, expanded", "MLA, absorbed", "GQA-8"]
    assert [r.case.implementation for r in rows[1].results] == ["plain", "triton"]
    assert rows[1].best.median_s == 0.02
    assert [row.refused for row in rows] == [(), ("flash",), ()]
    assert rows[0].faster is None
    assert rows[1].faster is not None
    assert rows[1].faster.mid == pytest.approx(15.5)
    # not timed in the same rounds
    assert rows[2].faster is None
    assert rows[1].state == "2.00× floor"


def test_the_set_with_most_of_the_shapes_counts() -> None:
    several = [timed(case, 0.1 * n, together=7) for n, case in enumerate(quantised(**SIZE), 1)]
    rows = kind_views.rows([timed(full(**SIZE), 0.9, together=3), *several], "formats", PLACE)
    assert len(rows) == len(several) == 7
    assert {row.best.together for row in rows} == {7}
    assert [row.label for row in rows[:2]] == ["float32", "int8-token"]
    assert rows[-1].label == "int8-token/int4-g32"


def test_new_tokens_are_held_against_one_of_their_own_kind() -> None:
    cases = [kind(q_len=n, **SIZE) for kind in (full, latent) for n in (1, 2)]
    rows = kind_views.rows(
        [timed(case, seconds) for case, seconds in zip(cases, (2, 3, 5, 8), strict=True)], "tokens", PLACE
    )
    assert [row.label for row in rows] == [
        "GQA-8, 1 new",
        "GQA-8, 2 new",
        "MLA, absorbed, 1 new",
        "MLA, absorbed, 2 new",
    ]
    assert [row.faster and pytest.approx(row.faster.mid) for row in rows] == [None, 2 / 3, None, 5 / 8]
    found = kind_views.finding(rows, "tokens")
    assert found == "MLA, absorbed, 2 new: 1.60× slower than MLA, absorbed, 1 new"
    assert kind_views.finding(rows[:1], "tokens") == ""


@pytest.mark.parametrize(("why", "words"), [(STILL_TIMED, "so far"), ("other processes took 40%", "not steady")])
def test_nothing_is_concluded_from_what_is_not_steady(why: str, words: str) -> None:
    rows = kind_views.rows([timed(full(**SIZE), 0.2), timed(shared(**SIZE), 0.1, unsteady=why)], "windows", PLACE)
    assert rows[1].faster is None
    assert rows[1].state == words
    steady = [timed(shared(**SIZE), 0.1, unsteady=why), timed(shared(**SIZE), 0.3, name="triton")]
    assert kind_views.fastest(steady).case.implementation == "triton"


def test_what_a_run_here_times_is_what_is_shown_of_it() -> None:
    for topic in kind_views.TOPICS:
        asked = kind_views.shapes(topic, 1024, "float32")
        place = Place(1024, 1, "float32")
        assert len(kind_views.rows([timed(case, 0.1) for case in asked], topic, place)) == len(asked)
        assert kind_views.recorded(topic)[0].source == "NVIDIA H200"
    picked = [case for case in kind_views.shapes("mla", 1024, "float32") if case.kind == "sparse"]
    assert [case.top_k for case in picked] == [256]
    with pytest.raises(ValueError, match="topic must be one of mla, formats"):
        kind_views.shapes("ring", 1024, "float32")
    with pytest.raises(ValueError, match="context must be"):
        kind_views.shapes("mla", 0, "float32")


def test_of_a_case_the_last_result_counts() -> None:
    first, other, last = timed(full(**SIZE), 0.3), timed(shared(**SIZE), 0.2), timed(full(**SIZE), 0.1)
    assert kind_views.latest([first, other, last]) == (last, other)


def test_the_recorded_run_says_what_the_lessons_say() -> None:
    rows = {row.label: row for row in kind_views.recorded("mla")[0].rows}
    assert rows["MLA, absorbed"].faster is not None
    assert rows["MLA, absorbed"].faster.low > 7
    assert rows["MLA, absorbed"].best.bound == "arithmetic"
    assert (rows["MLA, absorbed"].best.times_floor or 0) > 3
    (run,) = kind_runs.recorded()
    long = [
        row for row in kind_views.rows(run.results, "mla", Place(131072, 1, "bfloat16")) if row.label == "Sparse (DSA)"
    ]
    assert long[0].faster is not None
    assert long[0].faster.low > 1.5
    tokens = {row.label: row for row in kind_views.recorded("tokens")[0].rows}
    assert tokens["GQA-8, 4 new"].faster is not None
    assert not tokens["GQA-8, 4 new"].faster.differs
    assert sparse(context=1024).top_k == 2048
