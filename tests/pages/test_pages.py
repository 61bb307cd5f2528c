"""Every page runs whatever its address says, shows no error, and answers junk with a sentence.

A new file in ``pages/`` is tested without being listed here.
"""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.browser_history import opened_from_history
from ui import params

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["app.py", *sorted(f"pages/{p.name}" for p in (ROOT / "pages").glob("*.py"))]

JUNK = (
    "",
    "-1",
    "0",
    "1000000000000",
    "٣",
    "1e9",
    "NaN",
    "<script>alert(1)</script>",
    "__import__('os')",
    "%00\x00",
    "A" * 5000,
)


def own_keys(page: str) -> list[str]:
    """Address keys that only this page declares: the first arguments of ``params.KIND("key", …)``."""
    tree = ast.parse((ROOT / page).read_text(encoding="utf-8"))
    return [
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).startswith("params.")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]


def open_page(page: str, **query: str | list[str]) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if page != "app.py":
        at.switch_page(page)
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def pick(at: AppTest, model: str) -> AppTest:
    """Pick a model as the search field does. That field is a component of our own, which AppTest cannot press."""
    at.session_state["model"] = model
    return at.run()


def said(at: AppTest) -> str:
    kinds = (at.error, at.warning, at.caption, at.markdown, at.info)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def assert_sound(at: AppTest) -> None:
    assert not at.exception, [e.value for e in at.exception]
    text = said(at)
    assert "Traceback" not in text
    assert "this part of the page failed" not in text


WITHOUT_A_LINE = {
    "app.py",
    "pages/about.py",
    "pages/code.py",
    "pages/other_ways.py",
    "pages/real_model.py",
    "pages/summary.py",
    "pages/with_cache.py",
}
"""Pages without a chart, or whose pictures say step by step what to see."""


@pytest.mark.parametrize("page", PAGES)
def test_default_view(page: str) -> None:
    at = open_page(page)
    assert_sound(at)
    assert len(at.title) == 1
    assert not at.warning, said(at)
    assert "What to see" in said(at) or page in WITHOUT_A_LINE, "no line says what to see in the figure"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("turn", range(2))
def test_junk_in_every_parameter(page: str, turn: int) -> None:
    keys = [*(p.key for p in params.SHARED), *own_keys(page), "v", "nonsense"]
    # over the turns each key gets several kinds of junk, and its neighbours get other kinds at the same time
    at = open_page(page, **{key: JUNK[(i + 3 * turn) % len(JUNK)] for i, key in enumerate(keys)})
    assert_sound(at)
    assert "could not be used" in said(at)
    assert "nonsense" not in said(at)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "query",
    [
        {"model": "custom", "layers": "10000", "heads": "1024", "kv_heads": "1024", "head_dim": "1048576"},
        {"model": "custom", "heads": "12", "kv_heads": "5"},
        {"model": "config", "config": "AAAA"},
        {"context": "4294967296", "batch": "1048576", "kv": "q4_0"},
        {"model": "google/Gemini-1.0"},
    ],
    ids=lambda q: "-".join(q.values())[:40],
)
def test_extreme_but_allowed(page: str, query: dict[str, str]) -> None:
    assert_sound(open_page(page, **query))


def test_the_check_can_fail(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from ui import frame\nwith frame.page('x', title='X', lead='x'):\n    raise RuntimeError('secret detail')\n"
    )
    at = AppTest.from_file(str(broken), default_timeout=30).run()
    assert "this part of the page failed" in said(at)
    assert "secret detail" not in said(at)
    with pytest.raises(AssertionError):
        assert_sound(at)


def test_a_page_draws_only_what_it_calls_for(tmp_path: Path) -> None:
    """Streamlit draws an expression that stands alone, such as a constant's docstring, unless it is told not to."""
    script = tmp_path / "page.py"
    script.write_text('MOST = 3\n"""The most."""\nMOST\n')
    assert not AppTest.from_file(str(script)).run().markdown


def test_a_mistake_of_the_user_is_explained(tmp_path: Path) -> None:
    page = tmp_path / "mistake.py"
    page.write_text(
        "import streamlit as st\nfrom ui import frame\n"
        "with frame.page('x', title='X', lead='x'):\n"
        "    with frame.guard():\n        raise ValueError('n_heads must be *even*, got 3')\n"
        "    st.caption('the rest')\n"
    )
    at = AppTest.from_file(str(page), default_timeout=30).run()
    assert_sound(at)
    assert at.warning[0].value == r"n\_heads must be \*even\*, got 3"
    assert at.caption[0].value == "the rest"


def test_sizes_carry_to_another_page() -> None:
    at = open_page("app.py", model="custom", heads="15", kv_heads="5", layers="3")
    at.number_input(key="head_dim").set_value(7).run()
    at.switch_page("pages/heads.py").run()
    assert at.number_input(key="heads").value == 15
    assert at.number_input(key="head_dim").value == 7
    assert at.select_slider(key="kv_heads").value == 5


def test_another_model_resets_what_belonged_to_the_last_one() -> None:
    at = open_page("pages/heads.py", h_kv="4")
    assert at.select_slider(key="h_kv_pick").value == 4
    pick(at, "meta-llama/Llama-2-7b-hf")
    assert at.select_slider(key="h_kv_pick").value == 32


def test_sizes_typed_for_a_model_without_published_ones_are_in_the_address() -> None:
    at = open_page("app.py", model="google/Gemini-1.0")
    at.number_input(key="heads").set_value(7).run()
    assert at.query_params["heads"] == "7"
    assert open_page("app.py", **at.query_params).number_input(key="heads").value == 7


def test_an_address_that_arrives_late_changes_nothing() -> None:
    """Over a slow link, a browser may still send an old address with the next thing that is pressed."""
    at = open_page("pages/kv_cache.py", context="5000")
    old = dict(at.query_params)
    at.number_input(key="batch").set_value(3).run()
    time.sleep(0.9)
    at.query_params = old
    at.run()
    assert at.number_input(key="batch").value == 3
    at.query_params = old
    at.selectbox(key="kv").set_value("int4").run()
    assert (at.number_input(key="batch").value, at.selectbox(key="kv").value) == (3, "int4")
    # but if the visitor went back to that address, it is the one shown
    at.query_params = old
    with opened_from_history():
        at.run()
    assert (at.number_input(key="batch").value, at.selectbox(key="kv").value) == (1, "bf16")
