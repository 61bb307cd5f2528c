"""The walks of docs/architecture.md, traced: how often a number is checked, and how many forms a timing has."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from attention.jobs import bench
from attention.kernels.case import Result
from attention.timing import speed, views
from attention.timing.speed import Calibration
from tests.pages.test_pages import assert_sound, open_page
from tests.server import ROOT
from ui import controls
from viz import timings

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


class Chosen(int):
    """An integer that can be told from all others."""


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """(name, value) of each call of a check function, from whatever module."""
    calls: list[tuple[str, Any]] = []

    def noting(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            calls.extend((name, value) for value in args)
            return check(*args, **options)

        return noted

    open_page("pages/spectrum.py")  # by now all modules of the pages are loaded
    open_page("pages/kv_cache.py")
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in ("attention", "ui")]:
        for name, check in list(vars(module).items()):
            if name.startswith("check_") and callable(check):
                monkeypatch.setattr(module, name, noting(name, check))
    return calls


def test_a_context_is_checked_once_for_the_page_and_once_for_its_sentence(checked: list[tuple[str, Any]]) -> None:
    assert_sound(open_page("pages/kv_cache.py", model=LLAMA, context="12289"))
    found = [name for name, value in checked if value == 12_289]
    # check_context calls check_size: once for the Load of the page, and once for that of its sentence (view_words)
    assert found == ["check_context", "check_size"] * 2


def test_the_chosen_number_of_heads_is_one_of_the_slider_and_not_checked_again(
    checked: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slider, chosen = controls.divisor_slider, []

    def marked(*args: Any, **options: Any) -> int:
        chosen.append(slider(*args, **options))
        return Chosen(chosen[-1])

    monkeypatch.setattr(controls, "divisor_slider", marked)
    assert_sound(open_page("pages/spectrum.py", model=LLAMA, spec_kv="16"))
    assert chosen == [16]
    assert checked
    assert not [name for name, value in checked if isinstance(value, Chosen)]


def form(value: Any, number: float) -> str:
    """The type that holds a number as one of its parts; empty if it does not."""
    parts = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "__dict__") else ()
    if hasattr(value, "_fields"):
        parts = tuple(value)
    return type(value).__name__ if any(isinstance(part, float) and part == number for part in parts) else ""


def test_a_timing_has_five_forms_from_the_kernel_to_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        speed,
        "calibrations",
        {"cpu": Calibration("cpu", "a processor", 1, 1e9, 1e9, {"float32": 1e9}, 2**20, None, ())},
    )
    case = {"implementation": "folded_matmul", "n_heads": 6, "n_kv_heads": 3, "head_dim": 5, "context": 67}
    lines: list[str] = []
    returned: list[Any] = []

    def note(frame: FrameType, event: str, value: Any) -> None:
        if event == "return" and frame.f_code.co_filename.startswith(str(ROOT)):
            returned.append(value)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        bench.run({"cases": [case], "seconds_per_case": 0.01}, lambda row: lines.append(json.dumps(row)), lambda: False)
        rows = [json.loads(line) for line in lines]
        results = views.latest([Result.from_json(row) for row in rows if "median_s" in row])
        figure = timings.plot_dots(views.bars(results, views.shape_of(results[0])))
    finally:
        sys.setprofile(before)
    number = results[0].median_s
    assert number is not None
    forms = ["seconds"]
    for name in (form(value, number) for value in returned):
        if name and name != forms[-1]:
            forms.append(name)
    assert forms == ["seconds", "Result", "dict", "Result", "Bar"]
    assert any(number in (trace.x or ()) for trace in figure.data), "the figure has the number itself"
