"""The computing pages through AppTest: their numbers are those of `attention`, and bad input becomes a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.catalog import published
from attention.formats import weight_bytes
from attention.memory import (
    allocation,
    comparison,
    footprint,
    history,
)
from attention.memory.load import Load
from attention.oracle import accuracy, accuracy_view
from attention.serving import fit
from attention.serving import plan as serving
from attention.units import binary_bytes, ratio, tokens
from ui.sections.compare import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
LLAMA = "meta-llama/Llama-3.1-8B"
GEMMA = "google/gemma-3-27b-pt"


def open_page(name: str, **query: str | list[str]) -> AppTest:
    at = AppTest.from_file(ROOT / "app.py", default_timeout=60)
    at.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    return at


def sound(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: str(metric.value) for metric in at.metric}


def html(at: AppTest) -> str:
    return "".join(part.proto.body for part in at.get("html"))


def chart(at: AppTest, index: int = 0) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(at.get("plotly_chart")[index].proto.spec)
    return spec


@pytest.mark.parametrize(("model", "context", "batch", "kv"), [(LLAMA, 5003, 3, "bf16"), (GEMMA, 32_768, 1, "q8_0")])
def test_kv_cache_shows_the_memory_modules_numbers(model: str, context: int, batch: int, kv: str) -> None:
    at = sound(open_page("kv_cache", model=model, context=str(context), batch=str(batch), kv=kv))
    spec = published.model(model).spec
    assert spec is not None
    cache = footprint.cache_bytes(spec, context, batch, kv)
    shown = metrics(at)
    assert binary_bytes(cache.state_bytes) in shown.values()
    assert shown["For one more token"] == binary_bytes(cache.bytes_per_token)
    at_tokens = footprint.crossover(spec, weight_bytes(spec.n_parameters or 0, "bf16"), kv, batch)
    assert shown["Outgrows the weights at"] == f"{tokens(at_tokens or 0)} tokens"
    assert f"{cache.state_bytes:,} bytes" in html(at)
    table = at.dataframe[0].value
    assert table["bytes, one sequence"].sum() == cache.sequence_bytes
    assert len(table) == spec.n_layers


def test_kv_cache_redraws_when_a_control_moves() -> None:
    at = sound(open_page("kv_cache", model=LLAMA, context="8192"))
    before = metrics(at)
    at.number_input(key="batch").set_value(7).run()
    assert metrics(sound(at)) != before
    at.selectbox(key="k_axes").set_value("batch").run()
    assert {trace["type"] for trace in chart(sound(at))["data"]} == {"bar"}
    at.selectbox(key="k_axes").set_value("linear").run()
    assert all(trace.get("stackgroup") for trace in chart(sound(at))["data"] if trace["mode"] == "lines")


def test_kv_cache_shows_what_an_engine_sets_aside() -> None:
    at = sound(open_page("kv_cache", model=LLAMA, context="8192", k_tp="16", k_page="32", k_static="10000"))
    spec = published.model(LLAMA).spec
    assert spec is not None
    aside = allocation.allocate(spec, 8192, tp=16, page_tokens=32, max_context=10_000)
    drawn = [json.loads(part.proto.json)["bars"] for part in at.get("bidi_component") if "bars" in part.proto.json]
    assert [bars[-1]["end"] for bars in drawn if bars[-1]["label"] == "set aside"] == [aside.allocated_bytes]
    assert any(binary_bytes(aside.bytes_per_rank) in caption.value for caption in at.caption)


def test_ranks_that_the_heads_do_not_allow_are_a_message_and_the_rest_stays() -> None:
    at = sound(open_page("kv_cache", model=LLAMA, k_tp="7"))
    assert [warning.value for warning in at.warning] == ["tp must divide n\\_heads = 32, got 7"]
    assert "hs-formula" in html(at)
    assert at.dataframe


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-ai/DeepSeek-V3",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "tiiuae/falcon-7b",
        "google/flan-t5-xl",
        "THUDM/chatglm2-6b",
        "google/Gemini-1.0",
        "custom",
    ],
)
@pytest.mark.parametrize("name", ["kv_cache", "fit"])
def test_every_kind_of_model_has_its_page(name: str, model: str) -> None:
    at = sound(open_page(name, model=model, parameters="7"))
    assert [w.value for w in at.warning if "does not fit" not in w.value] == []
    assert chart(at)["data"]


def test_compare_has_a_row_per_column() -> None:
    chosen = [LLAMA, f"{LLAMA}~fp8~4", GEMMA, "google/Gemini-1.0"]
    at = sound(open_page("compare", cmp=chosen, context="5003", batch="3"))
    rows = comparison.compare([comparison.column(text) for text in chosen], Load(5003, 3))
    table = at.dataframe[0].value
    assert list(table["model"]) == [row.label for row in rows]
    for shown, row in zip(table["GiB"], rows, strict=True):
        assert (row.state_bytes is None and shown != shown) or shown * 2**30 == row.state_bytes
    assert any("unpublished" in caption.value for caption in at.caption)
    assert [t["name"] for t in chart(at)["data"] if t["mode"] == "lines"] == [r.label for r in rows[:3]]


def test_a_column_with_its_own_settings_can_be_added() -> None:
    at = sound(open_page("compare", cmp=[LLAMA]))
    at.session_state["cmp_add_model"] = LLAMA
    at.selectbox(key="cmp_add_kv").set_value("int4")
    at.button(key="cmp_add").click().run()
    assert list(sound(at).dataframe[0].value["model"]) == ["Llama 3.1 8B", "Llama 3.1 8B · int4"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_show_what_they_name(number: int) -> None:
    at = sound(open_page("compare"))
    at.button(key=f"cmp_example_{number}").click().run()
    chosen = list(EXAMPLES.values())[number]["cmp"]
    assert list(sound(at).dataframe[0].value["model"]) == [comparison.column(text).label for text in chosen]
    assert [w.value for w in at.warning] == []


def test_an_address_with_unknown_models_keeps_the_known_ones() -> None:
    at = sound(open_page("compare", cmp=["no-such/model", LLAMA, f"{LLAMA}~fp8~99999"]))
    assert list(at.dataframe[0].value["model"]) == ["Llama 3.1 8B"]
    assert any("could not be used" in caption.value for caption in at.caption)


def test_no_models_is_a_designed_state() -> None:
    at = sound(open_page("compare", cmp=[LLAMA]))
    at.session_state["cmp"] = []
    at.run()
    assert "Choose at least one model" in chart(sound(at))["layout"]["annotations"][0]["text"]


def test_lineage_follows_the_chosen_family() -> None:
    at = sound(open_page("compare", cmp_family="Gemma", context="32768"))
    figure = chart(at, 1)
    assert sum(len(trace["x"]) for trace in figure["data"]) == len(history.lineage("Gemma", 32_768))


def test_fit_shows_the_solved_numbers() -> None:
    at = sound(open_page("fit", model=LLAMA, context="32768", batch="5", f_acc="h100-sxm", f_util="80", f_reserve="2"))
    spec = published.model(LLAMA).spec
    assert spec is not None
    setup = fit.Setup(published.accelerator("h100-sxm"), utilisation=0.8, reserve_bytes=2 * 2**30)
    plan = serving.plan(spec, setup, 32_768, 5)
    shown = metrics(at)
    assert shown["Longest context at batch 5"] == f"{plan.largest_context:,}"
    assert shown["Largest batch at 32k tokens"] == f"{plan.largest_batch:,}"
    assert shown["Fewest accelerators"] == f"{plan.smallest_count}"
    assert any("bound, not a promise" in str(metric.delta) for metric in at.metric)
    at.slider(key="f_util").set_value(60).run()
    assert metrics(sound(at)) != shown


def test_a_load_that_does_not_fit_is_said() -> None:
    at = sound(open_page("fit", model="meta-llama/Llama-3.1-405B", f_acc="l4"))
    assert metrics(at)["Longest context at batch 1"] == "none"
    assert metrics(at)["This load"] == "does not fit"
    assert metrics(at)["One decode step"] == "–"
    assert "No decode step: the load does not fit" in [heading.value for heading in at.subheader]


def test_an_unknown_parameter_count_can_be_stated() -> None:
    asked = open_page("fit", model="custom")
    assert "State the parameters" in asked.warning[0].value
    assert asked.number_input(key="parameters_pick").value is None
    asked.number_input(key="parameters_pick").set_value(6.2).run()
    assert metrics(sound(asked))
    at = sound(open_page("fit", model="custom", parameters="6.2"))
    before = metrics(at)
    assert before == metrics(asked)
    at.number_input(key="parameters_pick").set_value(30.0).run()
    assert metrics(sound(at)) != before


def test_about_counts_what_is_there() -> None:
    at = sound(open_page("about"))
    text = " ".join(markdown.value for markdown in at.markdown)
    assert f"{len(published.models())} published models" in text
    assert "[[" not in text


def test_accuracy_shows_the_results_file() -> None:
    at = sound(open_page("accuracy", a_family="Gemma", a_which="differences"))
    results = accuracy.load()
    counts = accuracy_view.summary(results)
    shown = metrics(at)
    assert shown["Models asked for their own cache"] == f"{counts.asked:,}"
    assert shown["Bytes apart without explanation"] == f"{counts.unexplained_bytes:,}"
    mistakes = accuracy_view.mistakes(results, "Gemma")
    assert len(chart(at)["data"]) == len(mistakes)
    assert f"claims {ratio(max(f for m in mistakes for f in m.factors))} the bytes of" in "".join(
        text.value for text in at.markdown
    )
    assert any(f"{counts.agreeing} of {counts.golden} published" in heading.value for heading in at.subheader)
    listed = at.dataframe[1].value
    assert list(listed["model"]) == [
        c.model for c in accuracy_view.shown_checks(results.checks, "differences", "Gemma")
    ]


def test_accuracy_without_a_results_file_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> accuracy.Results:
        raise FileNotFoundError(tmp_path)

    monkeypatch.setattr(accuracy, "load", missing)
    at = sound(open_page("accuracy"))
    assert any("No results yet" in markdown.value for markdown in at.markdown)


def test_a_remedy_is_a_button_that_makes_the_load_fit() -> None:
    query = {"model": "meta-llama/Llama-3.1-70B", "f_acc": "l40s", "f_count": "4", "context": "16384", "batch": "8"}
    keys = [str(b.key) for b in sound(open_page("fit", **query)).button]
    offered = [key for key in keys if key.startswith("fit_remedy_")]
    assert offered == [f"fit_remedy_{what}" for what in ("kv_dtype", "weight_dtype", "context", "batch", "count")]
    for key in offered:
        at = open_page("fit", **query)
        at.button(key=key).click().run()
        assert metrics(sound(at))["This load"] == "fits", key
        assert not [b for b in at.button if str(b.key).startswith("fit_remedy_")]


def test_the_price_of_a_million_tokens_is_of_the_bound_on_the_page() -> None:
    at = sound(open_page("fit", model=LLAMA, f_price="2"))
    assert "A million tokens cost at least" in metrics(at)
    assert "A million tokens cost at least" not in metrics(sound(open_page("fit", model=LLAMA)))


def test_prefill_is_bounded_for_the_context_or_for_the_prompt_that_was_typed() -> None:
    whole = metrics(sound(open_page("fit", model=LLAMA, context="8192")))
    short = metrics(sound(open_page("fit", model=LLAMA, context="8192", f_prompt="1000")))
    assert "Prefill of 8k tokens takes at least" in whole
    assert "Prefill of 1,000 tokens takes at least" in short
    assert whole["Each user gets at most"] == short["Each user gets at most"]


def test_a_draft_takes_room_on_what_fits_and_moves_the_points_of_roofline() -> None:
    plain, drafted = (
        sound(open_page("fit", model=LLAMA, context="8192", batch="4", f_draft=draft)) for draft in ("0", "3")
    )
    said = next(text.value for text in drafted.markdown if "draft token" in text.value)
    assert "checks 4 tokens of each sequence" in said
    # one layer more: 8 K/V heads of 128, K and V, bf16
    assert binary_bytes(4 * 8192 * 2 * 8 * 128 * 2) in said
    [label] = [name for name in metrics(plain) if name.startswith("Largest batch")]
    assert metrics(drafted)[label] != metrics(plain)[label]
    assert not [text.value for text in plain.markdown if "draft token" in text.value]
    roofline = sound(open_page("roofline", model=LLAMA, r_draft="4"))
    assert [text.value for text in roofline.caption if "checks 5 tokens of each sequence" in text.value]
