"""Figures of the computing pages: Plotly accepts each, they show the numbers given, and empty input has a figure."""

import re
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from attention.catalog import published
from attention.memory import (
    breakdown,
    comparison,
    history,
)
from attention.memory import (
    curves as cache_curves,
)
from attention.memory.comparison import Comparison, Curve
from attention.memory.curves import KindCurves
from attention.memory.footprint import cache_bytes
from attention.memory.load import Load
from attention.serving import plan
from attention.serving.fit import Grid, Setup
from attention.serving.plan import FitMap
from attention.spec import Kind, Layer, ModelSpec, uniform_spec
from viz import (
    compare,
    fit,
    formula,
    kv_cache,
)
from viz import compare_history as lineage_figures
from viz import (
    labels as end_labels,
)
from viz.figure import bytes_axis, checked, token_axis

MODELS = [
    "Llama 3.1 8B",
    "Gemma 3 27B",
    "DeepSeek-V3",
    "Qwen3-Next 80B-A3B",
    "Falcon 7B",
    "Llama 4 Scout",
    "ChatGLM2 6B",
    "Flan-T5 XL",
]


def spec_of(name: str) -> ModelSpec:
    spec = published.model(name).spec
    assert spec is not None
    return spec


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_cache_over_context(name: str, log: bool) -> None:
    spec = spec_of(name)
    weights = breakdown.weight_bytes(spec.n_parameters)
    numbers = cache_curves.over_context(spec, cache_bytes(spec, 8192, 3), weights)
    fig = checked(kv_cache.plot_over_context(numbers, log=log))
    lines = {trace.name: trace for trace in fig.data if trace.mode == "lines"}
    kinds = {kv_cache.KIND_NAMES[kind]: y for kind, y in numbers.curves.by_kind.items()}
    assert set(kinds) <= set(lines)
    for kind, y in kinds.items():
        assert [v or 0 for v in lines[kind].y] == list(y)
        assert list(lines[kind].x) == list(numbers.curves.x)
    assert fig.layout.xaxis.type == ("log" if log else None)
    assert bool(fig.layout.shapes) <= (weights is not None)


def test_the_crossing_is_marked_where_the_cache_outgrows_the_weights() -> None:
    spec = spec_of("Llama 3.1 8B")
    weights = breakdown.weight_bytes(spec.n_parameters)
    numbers = cache_curves.over_context(spec, cache_bytes(spec, 8192), weights)
    marks = [trace for trace in kv_cache.plot_over_context(numbers).data if trace.marker.symbol == "diamond"]
    assert [(mark.x[0], mark.y[0]) for mark in marks] == [(numbers.crossover, weights)]
    without = cache_curves.over_context(spec, cache_bytes(spec, 8192))
    fig = kv_cache.plot_over_context(without)
    assert not [trace for trace in fig.data if trace.marker.symbol == "diamond"]
    assert not fig.layout.shapes


def test_cache_over_batch_shows_each_number_of_sequences() -> None:
    curves = cache_curves.curves_over_batch(spec_of("Gemma 3 27B"), (1, 2, 5), 4099)
    fig = checked(kv_cache.plot_over_batch(curves, chosen=2, weights=10**9))
    assert {trace.name for trace in fig.data} == {"full attention", "sliding window"}
    assert [sum(ys) for ys in zip(*(trace.y for trace in fig.data), strict=True)] == list(curves.total)
    assert list(fig.data[0].marker.opacity) == [0.5, 1, 0.5]


@pytest.mark.parametrize("view", comparison.VIEWS)
def test_comparison(view: str) -> None:
    rows = comparison.compare([comparison.column(name) for name in MODELS], Load(8192))
    picture = comparison.curves(rows, (256, 8192, 131_072), view)
    fig = checked(compare.plot_over_context(picture))
    lines = [trace for trace in fig.data if trace.mode == "lines"]
    assert [line.name for line in lines] == [curve.label for curve in picture.curves]
    assert [tuple(v or 0 for v in line.y) for line in lines] == [curve.y for curve in picture.curves]
    if view == "total":
        assert any(trace.mode == "markers" for trace in fig.data)


def test_names_carry_the_dash_of_their_line() -> None:
    """Beyond eight models the colours repeat: the dash then tells lines and their names apart."""
    x = (256, 1024)
    numbers = Comparison("total", x, tuple(Curve(f"m{i}", (2.0**i, 4.0**i)) for i in range(1, 20)), (), 256)
    fig = checked(compare.plot_over_context(numbers))
    lines = {trace.name: (trace.line.color, trace.line.dash) for trace in fig.data if trace.mode == "lines"}
    assert len(set(lines.values())) == 19
    marks = {}
    for note in fig.layout.annotations:
        found = re.fullmatch(r'<span style="color:(#\w+)">(.+)</span> (m\d+)', note.text)
        assert found is not None
        color, mark, name = found.groups()
        assert color == lines[name][0]
        marks[name] = mark
    assert {(lines[name][1], mark) for name, mark in marks.items()} == {("solid", "●"), ("dash", "╍╍"), ("dot", "•••")}


def test_equal_lines_show_beside_one_another() -> None:
    x = (256, 1024, 4096)
    curves = [(1.0, 2.0, 4.0), (1.0, 2.0, 4.0), (9.0, 9.5, 9.9), (1.001, 2.001, 4.0)]
    numbers = Comparison("total", x, tuple(Curve(f"m{i}", y) for i, y in enumerate(curves)), (), 256)
    widths = [trace.line.width for trace in compare.plot_over_context(numbers).data if trace.mode == "lines"]
    first, second, apart, last = widths
    # drawn from first to last, each leaves a rim of at least two pixels on either side of the next
    assert first - second >= 4
    assert second - last >= 4
    assert apart == last


def test_lineage() -> None:
    models = history.lineage("Llama", 8192)
    fig = checked(lineage_figures.plot_lineage(models, family="Llama"))
    assert sum(len(trace.x) for trace in fig.data) == len(models)
    assert {trace.name for trace in fig.data} == {"MHA", "GQA"}
    named = [text for trace in fig.data for text in trace.text if text]
    assert len(named) == len(set(named)) > 3


def test_fit_map() -> None:
    spec = spec_of("Llama 3.1 8B")
    setup = Setup(published.accelerator("h100-sxm"))
    numbers = plan.fit_map(spec, setup, 8192, 4)
    fig = checked(fit.plot_fit_map(numbers))
    cells = fig.data[0].z
    assert [[z is not None for z in row] for row in cells] == [list(row) for row in numbers.grid.fits]


def test_nothing_fits_is_said_in_the_map() -> None:
    numbers = plan.fit_map(spec_of("Llama 3.1 405B"), Setup(published.accelerator("t4")), 8192, 1)
    fig = checked(fit.plot_fit_map(numbers))
    assert any("Nothing fits" in note.text for note in fig.layout.annotations)


NOTHING = ModelSpec("nothing", (Layer(Kind.NONE),))


@pytest.mark.parametrize(
    "figure",
    [
        kv_cache.plot_over_context(cache_curves.over_context(NOTHING, cache_bytes(NOTHING, 8192))),
        kv_cache.plot_over_batch(KindCurves((), {}, ()), chosen=1),
        compare.plot_over_context(comparison.curves((), ())),
        lineage_figures.plot_lineage((), family="None"),
        fit.plot_fit_map(FitMap(Grid((), (), (), (), (), 0), (), (), 1, 1)),
    ],
)
def test_empty_input_gives_an_empty_titled_figure(figure: go.Figure) -> None:
    assert not figure.data
    assert checked(figure).layout.title.text


def test_end_labels_do_not_overlap_and_stay_below_the_top() -> None:
    labels = [end_labels.EndLabel(8, y, str(y)) for y in (100, 101, 102, 103, 5000)]
    notes = end_labels.end_labels(labels, (1, 10_000), 300)
    at = sorted(75 * note["y"] + note["yshift"] for note in notes)  # four powers of ten on 300 pixels
    assert all(b - a >= end_labels.LINE_PX - 1e-6 for a, b in pairwise(at))
    assert at[-1] <= 300


def test_axes_have_round_names() -> None:
    assert token_axis(256, 2**20)["ticktext"] == ["256", "1k", "4k", "16k", "64k", "256k", "1M"]
    assert bytes_axis(0, 10 * 2**30)["ticktext"] == ["0", "2 GiB", "4 GiB", "6 GiB", "8 GiB", "10 GiB"]
    assert "1 GiB" in bytes_axis(2**20, 2**36, log=True)["ticktext"]


def test_the_formula_has_its_numbers_put_in() -> None:
    text = formula.cache_formula(breakdown.terms(uniform_spec(32, 32, 8, 128), Load(8192, 2)))
    read = " ".join(re.sub("<[^>]*>", "", text).split())
    assert "= 2 sequences × 32 layers × 8,192 tokens × 2 K, V × 8 K/V heads × 128 head size × 2 bytes" in read
    assert read.endswith("= 2,147,483,648 bytes (2.00 GiB)")
    latent = formula.cache_formula(breakdown.terms(spec_of("DeepSeek-V3"), Load(100, 1, "fp8-tensor")))
    assert "(512 + 64)" in latent
    assert "scales" in latent
    assert "keeps nothing" in formula.cache_formula(())
