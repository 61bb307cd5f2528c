"""A stranger's text is shown as plain text everywhere: no link, no markup, no formula, no change of direction."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attention import foreign_text, tables
from attention.kept import store
from attention.kept.store import Store
from attention.kernels.kinds.case import KindCase, KindResult
from attention.memory.comparison import Comparison
from attention.memory.comparison import Curve as ModelCurve
from attention.memory.history import Ancestor
from attention.memory.model_points import ModelPoint
from attention.oracle.accuracy_view import Mistake
from attention.serving.kind_points import Intensities, KindPoint, Ridge
from attention.serving.roofline_points import Point, Roof, Roofline
from attention.settings import Settings
from attention.timing import runs
from attention.timing.kind_views import Row
from attention.timing.step_view import StepRow
from attention.timing.views import Bar, Curve
from tests.pages.test_pages import assert_sound, open_page
from tests.timing_samples import result, run, timed
from viz import (
    accuracy,
    bars,
    code,
    compare,
    compare_history,
    decode_step,
    heads_learn,
    intensity,
    kinds,
    published,
    roofline,
    spectrum,
    timings,
)
from viz.text import plain

LINK = '<a href="https://example.org">here</a>'
HOSTILE = (
    LINK, "<b>x</b>", "&lt;a&gt;", "a\u202eb", "a\x1b[31mb\nc", "x" * 500, "$\\frac{x}{y}$", "%{x}",
    "=HYPERLINK(1)", "![x](https://example.org)", ":material/home: :smile:",
)  # fmt: skip


def _roofline(text: str) -> Any:
    point = Point(text, "measured", 2.0, 1e9, note=text, binds="memory")
    points = (point, point._replace(part="whole step"), point._replace(part="attention alone"))
    return roofline.plot_roofline(Roofline((Roof(text, 1e10, 1e11, True),), points))


def _kinds(text: str) -> Any:
    timed = KindResult(KindCase("full", text, device="cpu"), 0.1, 0.01, 1e-6, 1e-4, 0.05, text)
    return kinds.plot_kinds([Row(text, (timed,), timed, None)], text)


def _intensities(text: str) -> Any:
    ridges = (Ridge(text, 7.0, 1e10),)
    return intensity.plot_intensities([KindPoint(text, "MLA", 2.0, 1e9, False, text)], ridges, text)


def _kinds_roofline(text: str) -> Any:
    points = [KindPoint(text, "MLA", 2.0, 1e9, measured, text) for measured in (False, True)]
    roofs = tuple(Roof(text, 1e10, rate, True) for rate in (1e11, 1e12))
    return intensity.plot_kinds_roofline(
        Intensities(roofs, tuple(points[:1]), tuple(points[1:]), (Ridge(text, 7.0, 1e10),))
    )


def _compare(text: str) -> Any:
    curve = ModelCurve(text, (1.0, 2.0))
    return compare.plot_over_context(Comparison("total", (256, 512), (curve,), (), 300))


def _ancestor(text: str) -> Any:
    old = Ancestor(text, text, 1, "2024-05", "GQA-8", 0.5, 64.0, 7_000_000)
    return compare_history.plot_lineage([old], family=text)


def _models(text: str) -> Any:
    point = ModelPoint("one", text, "GQA", 7_000_000, 4_096, "2024-05")
    return published.plot_models([point], 128, "one")


def _roles(text: str) -> Any:
    return heads_learn.plot_roles(heads_learn.RoleTable([text], [[0.5]], [[0.1]]))


FIGURES: dict[str, Callable[[str], Any]] = {
    "dots": lambda text: timings.plot_dots(
        [Bar(text, n, 8, 0.001 * n, 0.0, 0.0001, text, text) for n in (8, 1)], text, rows="Machine"
    ),
    "curves": lambda text: timings.plot_curves([Curve(1, 8, (128, 256), (0.1, 0.2), (0.01, 0.01), (text, text))], text),
    "no dots": lambda text: timings.plot_dots([], text),
    "no curves": lambda text: timings.plot_curves([], text),
    "roofline": _roofline,
    "kinds": _kinds,
    "no kinds": lambda text: kinds.plot_kinds([], text),
    "intensities": _intensities,
    "kinds under a roofline": _kinds_roofline,
    "trap": lambda text: code.plot_trap(
        [replace(r, case=replace(r.case, implementation=text)) for r in (result(), result("enable_gqa"))]
    ),
    "decode step": lambda text: decode_step.plot_steps([StepRow(text, "GQA-7", 7, 11, None)], text),
    "no decode step": lambda text: decode_step.plot_steps([], text),
    "compare": _compare,
    "lineage": _ancestor,
    "no lineage": lambda text: compare_history.plot_lineage([], family=text),
    "models": _models,
    "roles": _roles,
    "mistakes": lambda text: accuracy.plot_mistakes([Mistake(text, text, (text,), (4.0,))], {}),
    "quality": lambda text: spectrum.plot_quality([spectrum.Quality("MHA" + text, 1.0, 47.0)]),
    "token cost": lambda text: spectrum.plot_token_cost([spectrum.TokenCost(text, 1.0, 2.0)]),
}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_shows_it_as_text(figure: str, text: str) -> None:
    written = json.dumps(json.loads(FIGURES[figure](text).to_json()), ensure_ascii=False)
    for live in ("<a ", "<b>x<", "&lt;a&gt;", "\u202e", "\\u001b", "x" * 200, "$", "%{x}</"):
        assert live not in written.replace("&amp;lt;a&amp;gt;", "")
    # none of our templates begins with a placeholder of that name
    assert text != "%{x}" or "%&#123;x}" in written


@pytest.mark.parametrize("text", HOSTILE)
def test_bars_hand_text_on_as_text(text: str) -> None:
    """The bars' script writes text with textContent, and a saved SVG is serialised from the page."""
    shown = bars.published([spectrum.Quality(text, 1.0, 47.0)], text)
    assert shown[0].label == text
    from ui.frame import ROOT

    for script in ROOT.glob("ui/**/*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser", script.read_text())


def test_what_is_shown_is_what_was_written() -> None:
    assert plain("Intel(R) Xeon(R) @ 2.0 GHz · 2 cores") == "Intel(R) Xeon(R) @ 2.0 GHz · 2 cores"
    assert plain("<b>&lt;$%{") == "&lt;b&gt;&amp;lt;&#36;%&#123;"
    assert foreign_text.markdown("context 128, batch 2") == "context 128, batch 2"
    assert foreign_text.markdown("head_dim: 64").replace("\\", "") == "head_dim: 64"


@pytest.mark.parametrize(
    "text", ["https://example.org", "www.example.org", "me@example.org", ":material/home:", ":+1:"]
)
def test_markdown_finds_no_address_nor_icon_in_it(text: str) -> None:
    left_to_show = foreign_text.markdown(text).replace("\\", "")
    assert not re.search(r"https?://|www\.|\w@\w|:[\w+/]", left_to_show, re.IGNORECASE)
    assert left_to_show.replace("\u2060", "") == text


@pytest.mark.parametrize(
    "text", ["- a", "1. a", "# a", "> a", "| a |", "=a", "a\n# b", "```\n", "[a](b)", "<b>", "$x$"]
)
def test_markdown_begins_nothing(text: str) -> None:
    written = foreign_text.markdown(text)
    assert not re.search(r"(?<!\\)[`*_\[\]#<>|$=]|^\s*-|^\d+\.|\n", written)


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1+1", "\uff1d1", '=cmd|" /C calc"!A0')


@pytest.mark.parametrize("text", FORMULAS)
def test_no_file_holds_a_formula(text: str) -> None:
    made = run(
        calibration={"name": text, "threads": None}, host={"cpu": text, "system": text}, versions={"torch": text}
    )
    made = replace(made, results=(replace(made.results[0], note=text, unsteady=text),))
    for written in (made.to_csv(), tables.to_csv([{"model": text}])):
        cells = [cell for row in csv.reader(io.StringIO(written, newline="")) for cell in row]
        assert any(cell.startswith("'") for cell in cells)
        assert not [
            cell for cell in cells if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
        ]


# --- through the pages

MARKED = 'Zq<a href="https://evil.example">h</a>**b**[l](https://evil.example)$x$:smile:'
"""One text with every kind of markup; `_unescaped` looks for markup that still works."""


def _unescaped(at: Any) -> list[str]:
    """The Markdown texts and figures in which the mark still works as markup."""
    found = []
    kinds = ("warning", "error", "info", "success", "caption", "markdown", "subheader", "title", "header")
    texts = [str(element.value) for kind in kinds for element in getattr(at, kind)]
    texts += [text for m in at.metric for text in (m.label, str(m.value), str(m.delta), str(m.help or ""))]
    texts += [element.label for kind in ("button", "selectbox", "expander") for element in getattr(at, kind)]
    for text in texts:
        # text in backticks is shown as it is
        outside = re.sub(r"`[^`]*`", "", text)
        if "Zq" in outside and re.search(r"(?<!\\)(<a|\*\*b|\[l\]|\$x|:smile)|https:(?!\u2060)", outside):
            found.append(text)
    found += [str(c.proto)[:300] for c in at.get("plotly_chart") if "<a href" in str(c.proto.spec)]
    return found


@pytest.fixture
def kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    own = Store(Settings(data_dir=str(tmp_path)))
    monkeypatch.setattr(store, "process_store", own)
    yield own
    own.close()


def _strangers_run(name: str = MARKED) -> runs.Run:
    """A run as a stranger may upload it: each of its texts is the mark."""
    made = run(
        timed([0.13, 0.13, 0.13], n_kv_heads=77, floor_s=0.12, unsteady=name),
        timed([0.013, 0.013, 0.013], unsteady=name),
        host={"cpu": name, "system": name, "gpus": []},
        calibration={"name": name, "threads": 2, "read_bytes_per_s": 17e9, "flops_per_s": {"float32": 1e11}},
        versions={"torch": name},
        title=name,
    )
    made = replace(made, results=tuple(replace(r, note=name) for r in made.results))
    return runs.uploaded(made.dumps())


def test_pages_show_a_strangers_run_as_text(kept: Store) -> None:
    """By itself, in a comparison, and as the roof on the roofline page."""
    tokens = [kept.save(_strangers_run()).id, kept.save(_strangers_run("Zq other")).id]
    for page, query in (
        ("timings", {"run": tokens[:1]}),
        ("timings", {"run": tokens}),
        ("timings", {"run": tokens[:1], "t_view": "Over context"}),
        ("roofline", {"run": tokens[:1]}),
    ):
        at = open_page(f"pages/{page}.py", **query)
        assert_sound(at)
        shown = " ".join(str(e.value) for e in (*at.caption, *at.warning, *at.markdown))
        assert "Zq" in shown, page
        assert not _unescaped(at), page


@pytest.mark.parametrize("page", ["app.py", "pages/kv_cache.py", "pages/heads.py", "pages/compare.py", "pages/why.py"])
@pytest.mark.parametrize("field", ["model_type", "torch_dtype", "architectures", "num_attention_heads", "layer_types"])
def test_pages_show_a_strangers_configuration_as_text(page: str, field: str) -> None:
    config: dict[str, Any] = {
        "model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
        "hidden_size": 64, "vocab_size": 11, "_name_or_path": MARKED,
    }  # fmt: skip
    config[field] = [MARKED] if field in ("architectures", "layer_types") else MARKED
    query: dict[str, Any] = {"cmp": "config"} if "compare" in page else {"model": "config"}
    at = open_page(page, **query)
    at.text_area(key="config_text").set_value(json.dumps(config)).run()
    assert not at.exception
    assert not _unescaped(at)
