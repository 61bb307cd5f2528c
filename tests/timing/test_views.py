"""Timings arranged for figures: only comparable ones side by side, and none lost."""

import subprocess
import sys
from dataclasses import replace

import pytest

from attention.kernels import names as kernel_names
from attention.timing import views
from attention.timing.steadiness import STILL_TIMED, Interval
from attention.timing.views import Shape
from tests.timing_samples import result, run, timed
from viz import timings

RESULTS = (
    result("repeat_sdpa", n_kv_heads=77, context=1024, median_s=0.11),
    result("repeat_sdpa", n_kv_heads=7, context=1024, median_s=0.13),
    result("folded_sdpa", n_kv_heads=77, context=1024, median_s=0.17),
    result("folded_sdpa", n_kv_heads=7, context=1024, median_s=0.019),
    result("folded_sdpa", n_kv_heads=1, context=1024, median_s=None),
    result("folded_sdpa", n_kv_heads=7, context=2048, median_s=0.041),
)
SHAPE = Shape(77, 19, 1024, 1, "float32", "decode")


def test_shapes_are_told_apart_by_all_that_matters():
    assert views.shapes(RESULTS) == (SHAPE, SHAPE._replace(context=2048))
    other = result(batch=3)
    assert views.shape_of(other) != views.shape_of(result())


def test_rows_follow_the_lesson_and_leave_out_what_was_not_timed():
    rows = views.bars(reversed(RESULTS), SHAPE)
    assert [(b.implementation, b.n_kv_heads) for b in rows] == [
        ("repeat_sdpa", 77),
        ("repeat_sdpa", 7),
        ("folded_sdpa", 77),
        ("folded_sdpa", 7),
    ]


def test_the_fastest_of_each_way_to_share():
    best = views.fastest(RESULTS, SHAPE)
    assert {n: (r.case.implementation, r.median_s) for n, r in best.items()} == {
        77: ("repeat_sdpa", 0.11),
        7: ("folded_sdpa", 0.019),
    }
    rows = views.speedups(RESULTS, SHAPE)
    assert [(row.name, row.median_s) for row in rows] == [("MHA", 0.11), ("GQA-7", 0.019)]
    assert rows[0].faster is None
    assert rows[1].faster == pytest.approx([0.11 / 0.019] * 3)


def test_ratios_are_taken_in_rounds_and_only_of_what_is_steady():
    mha = timed([0.4, 0.8, 1.6, 0.4, 0.8, 1.6], n_kv_heads=77)
    gqa = timed([0.1, 0.2, 0.4, 0.1, 0.2, 0.4], n_kv_heads=7)
    assert views.faster(mha, gqa) == (4.0, 4.0, 4.0)
    for other in (
        replace(gqa, together=2),
        replace(gqa, unsteady="other processes took 40% of the processor"),
        replace(gqa, times_s=(), repeats=0),
        timed([0.1] * 6, n_kv_heads=7, context=2048),
    ):
        assert views.faster(mha, other) is None
    (first, second) = views.speedups([mha, replace(gqa, unsteady="why")], SHAPE)
    assert (second.faster, second.unsteady, first.unsteady) == (None, "why", "")


def test_ratios_in_words():
    assert views.faster_text(None) == ""
    assert views.faster_text(Interval(3.7, 3.9, 4.1)) == "3.90× faster (3.70–4.10)"
    assert views.faster_text(Interval(0.97, 1.0, 1.04)) == "no difference seen (0.970–1.04)"
    assert views.faster_text(Interval(0.4, 0.5, 0.8)) == "2.00× slower (1.25–2.50)"
    assert views.faster_text(Interval(4, 4, 4)) == "4.00× faster"


def test_the_last_result_of_a_case_counts():
    early = timed([0.1], n_kv_heads=7, unsteady=STILL_TIMED)
    late = timed([0.2] * 6, n_kv_heads=7)
    other = timed([0.3] * 6, n_kv_heads=1)
    assert views.latest([early, other, late]) == (other, late)
    assert views.trouble([early]) == ""
    assert views.trouble([early, replace(late, unsteady="why")]) == "why"


def test_a_quiet_machine_stands_beside():
    said = views.recorded_beside(Shape(32, 128, 4096, 1, "float32", "decode"))
    assert said.startswith("On a quiet machine (recorded on AMD EPYC")
    assert "GQA-8" in said
    # a shape that was not recorded is answered by the nearest one, and the answer names it
    assert "decode at context" in views.recorded_beside(Shape(77, 19, 1000, 1, "float32", "decode"))
    assert views.recorded_beside(SHAPE, "abacus") == ""


def test_curves_join_contexts_of_an_otherwise_equal_shape():
    mha, gqa = views.curves((*RESULTS, result(batch=3, n_kv_heads=7)), SHAPE)
    assert (mha.n_kv_heads, mha.context) == (77, (1024,))
    assert (gqa.n_kv_heads, gqa.context, gqa.median_s) == (7, (1024, 2048), (0.019, 0.041))


def test_machines_of_one_name_stay_apart():
    rows = views.host_bars([run(), run(), run(calibration={"name": "Other"})], views.shape_of(result()))
    names = list(dict.fromkeys(b.name for b in rows))
    assert names == ["Test 3000, 2 threads", "Test 3000, 2 threads (2)", "Other, 2 threads"]


def test_only_shapes_of_all_machines_are_compared():
    longer = run(result(context=2048), result(context=1024))
    assert views.common_shapes([run(), longer]) == (SHAPE,)
    assert views.common_shapes([run(), run(result(context=2048))]) == ()
    assert views.common_shapes([]) == ()


def test_figures_show_every_timing_and_its_floor():
    rows = views.bars(RESULTS, SHAPE)
    figure = timings.plot_dots(rows, "Title")
    dots = {(trace.name, y): x for trace in figure.data if trace.text for x, y in zip(trace.x, trace.y, strict=True)}
    assert dots[("GQA-7", "Folded, SDPA")] == 0.019
    assert len(dots) == len(rows)
    floors = [x for trace in figure.data if trace.marker.symbol == "line-ns" and trace.name is None for x in trace.x]
    assert floors == [row.floor_s for n in (77, 7) for row in rows if row.n_kv_heads == n]
    assert figure.layout.xaxis.type == "log"
    curve = timings.plot_curves(views.curves(RESULTS, SHAPE))
    assert [tuple(trace.y) for trace in curve.data if trace.name == "GQA-7"] == [(0.019, 0.041)]


def test_empty_figures_are_titled():
    for figure in (timings.plot_dots((), "Nothing"), timings.plot_curves((), "Nothing")):
        assert figure.layout.title.text == "Nothing"
        assert not figure.data


def test_every_kernel_has_a_name_and_every_name_a_kernel():
    # in a process of its own, so that torch does not slow the other tests
    code = (
        "from attention.kernels import names as n, registry as k\n"
        "assert (list(n.DECODE), list(n.PREFILL)) == (list(k.IMPLEMENTATIONS), list(k.PREFILL))\n"
        "assert set(n.USUAL['decode']) <= set(k.IMPLEMENTATIONS)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert kernel_names.label("some_new_one") == "some new one"


def test_a_finding_needs_steady_times_and_names_the_largest_gain():
    mha = timed([0.4, 0.8, 1.6, 0.4, 0.8, 1.6], n_kv_heads=77)
    gqa = timed([0.1, 0.2, 0.4, 0.1, 0.2, 0.4], n_kv_heads=7)
    mqa = timed([0.2, 0.4, 0.8, 0.2, 0.4, 0.8], n_kv_heads=1)
    assert views.finding([mha, gqa, mqa], SHAPE) == "GQA-7 is 4.00× faster than MHA"
    assert views.finding([mha], SHAPE) == ""
    for unsteady in ([replace(mha, unsteady="why"), gqa], [mha, replace(gqa, unsteady="why")]):
        assert views.finding(unsteady, SHAPE) == ""
    alike = timed([0.5, 0.7, 1.7, 0.5, 0.7, 1.7], n_kv_heads=7)
    assert views.finding([mha, alike], SHAPE).startswith("GQA-7 beside MHA: no difference seen")


def test_what_binds_is_told_for_each_sharing():
    mha, mqa = result(n_kv_heads=77), result(n_kv_heads=1)
    assert views.what_binds([mha, mqa], SHAPE) == "Memory sets the floor"
    assert views.what_binds([mha, replace(mqa, bound="arithmetic")], SHAPE).endswith(
        "of MHA, arithmetic that of the others"
    )
    assert views.what_binds([], SHAPE) == ""
