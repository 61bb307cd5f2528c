"""A stranger's text in a figure is read as text: no link, no markup, nothing that turns the reading direction."""

from __future__ import annotations

import json

import pytest

from attention.timing_views import Bar, Curve
from viz import timings
from viz.text import plain

HOSTILE = ('<a href="https://example.org">here</a>', "<b>x</b>", "&lt;a&gt;", "a\u202eb", "a\x1b[31mb\nc", "x" * 500)


@pytest.mark.parametrize("text", HOSTILE)
def test_timings_of_a_machine_with_such_a_name(text: str) -> None:
    bars = [Bar(text, n, 8, 0.001 * n, 0.0, 0.0001, "memory", text) for n in (8, 1)]
    curve = Curve(1, 8, (128, 256), (0.1, 0.2), (0.01, 0.01), (text, text))
    for figure in (timings.plot_dots(bars, text, rows="Machine"), timings.plot_curves([curve], text)):
        written = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
        assert "href" not in written.replace("&lt;a href", "")
        assert "<b>x" not in written
        assert "\u202e" not in written
        assert "\\u001b" not in written
        assert "x" * 200 not in written


def test_what_is_shown_is_what_was_written() -> None:
    assert plain("Intel(R) Xeon(R) @ 2.0 GHz · 2 cores") == "Intel(R) Xeon(R) @ 2.0 GHz · 2 cores"
    assert plain("<b>&lt;") == "&lt;b&gt;&amp;lt;"
