"""One quantity has one number on every page that shows it, for every model, in words that are true of that model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention import sharing, units
from attention.catalog import published
from attention.formats import weight_bytes
from attention.memory.footprint import cache_bytes
from attention.memory.load import Load
from attention.parameters import Parameters
from attention.serving import decode
from attention.sharing import with_n_kv_heads
from attention.spec import Kind
from tests.published_specs import spec_of
from ui.controls import pack

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("app.py", *(f"pages/{name}.py" for name in (
    "heads", "spectrum", "code", "kv_cache", "compare", "fit", "why", "roofline", "decode_step", "published",
)))  # fmt: skip
MODELS = {
    "GQA": "meta-llama/Llama-3.1-8B",
    "MHA": "meta-llama/Llama-2-7b-hf",
    "MQA": "google/gemma-2b",
    "too large": "meta-llama/Llama-3.1-405B",
    "latent": "deepseek-ai/DeepSeek-V3",
    "windows, one K/V head": "google/gemma-3-1b-pt",
    "per-layer embeddings, shared layers": "google/gemma-4-E2B",
    "chunked experts": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "experts": "mistralai/Mixtral-8x7B-v0.1",
    "hybrid": "ai21labs/Jamba-v0.1",
    "two numbers of K/V heads": "baichuan-inc/Baichuan-M1-14B-Instruct",
    "compressed": "deepseek-ai/DeepSeek-V4-Flash",
    "recurrent only": "tiiuae/falcon-mamba-7b",
    "encoder-decoder": "google/flan-t5-xl",
    "parameters not known": "google/gemma-3n-E2B",
}
BAD = re.compile(r"\bNone\b|\bnan\b|\binf\b|(?<![\d.,])\b1 (?:tokens|K/V heads|query heads|heads|layers|sequences)\b")
HEADS = re.compile(r"K/V head of its own|as MHA|than MHA|\bevery head\b", re.I)


OF_NO_MODEL = ("headshare_words", "headshare_path")
"""Components that show the same for every model."""


@remembered
def drawn(page: str, model: str, context: int, batch: int) -> str:
    """All that a page says: texts, metrics, tables, and the data that its pictures are given."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if page != "app.py":
        at.switch_page(page)
    if model.startswith("{"):
        at.query_params["model"], at.query_params["config"] = "config", pack(model)
    else:
        at.query_params["model"] = model
    name = "config" if model.startswith("{") else model
    at.query_params["cmp"] = [name]
    at.query_params["context"], at.query_params["batch"] = str(context), str(batch)
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    assert not at.error, [e.value for e in at.error]
    return "\n".join(_texts(at.main))


def _texts(node: Any) -> list[str]:
    found = []
    for child in getattr(node, "children", {}).values():
        if getattr(child, "children", None):
            found += _texts(child)
            continue
        proto = getattr(child, "proto", None)
        kind = child.type
        if kind == "metric":
            found.append(f"{child.label}: {child.value} ({child.delta})")
        elif kind in ("arrow_data_frame", "dataframe"):
            rows = child.value
            empty = str(getattr(proto, "placeholder", "") or "None")
            found.append(rows.astype(object).where(rows.notna(), empty).to_string())
        elif kind in ("markdown", "caption", "warning", "info", "heading", "subheader", "title", "html"):
            found.append(str(getattr(child, "value", None) or getattr(proto, "body", "")))
        elif kind == "bidi_component" and proto is not None and proto.component_name not in OF_NO_MODEL:
            found.append(re.sub(r"\s+", " ", json.dumps(json.loads(proto.json or "null"), ensure_ascii=False)))
    # the page on the code shows source, in which None is a word
    return [text for text in found if 'class="kw"' not in text]


CASES = [pytest.param(m, 8192, 1, id=f"{kind}, 8192 x 1") for kind, m in MODELS.items()]
# one of a thing is worded differently from many
CASES += [pytest.param(MODELS[kind], 1, 1, id=f"{kind}, 1 x 1") for kind in ("GQA", "latent", "recurrent only")]
CASES.append(pytest.param(MODELS["experts"], 4096, 32, id="experts, 4096 x 32"))


@pytest.mark.parametrize(("model", "context", "batch"), CASES)
def test_the_state_is_the_same_on_every_page(model: str, context: int, batch: int) -> None:
    spec = spec_of(model)
    size = units.binary_bytes(cache_bytes(spec, context, batch).state_bytes)
    for page in ("app.py", "pages/kv_cache.py", "pages/compare.py"):
        assert size in drawn(page, model, context, batch), (page, size)
    if (layer := spec.attention_layer) is not None:
        mha = units.binary_bytes(cache_bytes(with_n_kv_heads(spec, None), context, batch).state_bytes)
        assert mha in drawn("app.py", model, context, batch)
        if sharing.of_layer(layer) != "MHA":
            assert mha in drawn("pages/kv_cache.py", model, context, batch)
        if "does not divide" not in (text := drawn("pages/spectrum.py", model, context, batch)):
            assert size in text
    if spec.parameters is not None and "do not fit" not in (text := drawn("pages/why.py", model, context, batch)):
        assert size in text


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_weights_are_the_same_on_every_page(model: str) -> None:
    spec = spec_of(model)
    texts = {page: drawn(page, model, 8192, 1) for page in PAGES}
    if spec.parameters is None:
        assert "parameter count not known" in texts["pages/kv_cache.py"]
        for page in ("pages/fit.py", "pages/why.py"):
            assert "State the parameters" in texts[page], page
            assert "tokens/s" not in texts[page]
            assert "of weights" not in texts[page]
        return
    stored = units.binary_bytes(weight_bytes(spec.parameters.total, "bf16"))
    read = units.binary_bytes(weight_bytes(spec.parameters.read, "bf16"))
    assert f"weights {stored}, {units.parameters(spec.parameters.total)} parameters" in texts["pages/kv_cache.py"]
    assert stored in texts["pages/fit.py"]
    assert f"reads {read} of its {stored} of weights" in texts["pages/why.py"]
    if "one step needs" not in texts["pages/fit.py"] and "does not fit" not in texts["pages/fit.py"]:
        assert f"reads {read} of weights" in texts["pages/fit.py"]


def test_a_decode_step_of_an_unknown_width_says_what_it_times() -> None:
    text = drawn("pages/decode_step.py", MODELS["two numbers of K/V heads"], 8192, 1)
    assert "MLP's width is not known: four times the hidden size is timed" in text


UNCOUNTED = ("recurrent only", "parameters not known", "two numbers of K/V heads")


@pytest.mark.parametrize("kind", [k for k in MODELS if k not in UNCOUNTED])
def test_a_decode_step_reads_what_the_other_pages_say(kind: str) -> None:
    model = MODELS[kind]
    spec = spec_of(model)
    text = drawn("pages/decode_step.py", model, 8192, 1)
    assert spec.parameters is not None
    assert spec.attention_layer is not None
    name = sharing.of_layer(spec.attention_layer)
    read = units.binary_bytes(weight_bytes(spec.parameters.read, "bf16"))
    size = units.binary_bytes(cache_bytes(spec, 1024, 1).state_bytes)
    row = next(line for line in text.splitlines() if f"{units.tokens(1024)} · {name} " in line and "iB" in line)
    assert read in row
    assert size in row
    assert read in drawn("pages/why.py", model, 8192, 1)
    if spec.attention_layer.kind is Kind.LATENT:
        assert "MLA is timed in absorbed form" in text


def test_a_decode_step_whose_parameters_are_not_known_says_what_it_counts() -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/decode_step.py")
    at.query_params["model"], at.query_params["d_width"] = MODELS["parameters not known"], "8192"
    text = "\n".join(_texts(at.run().main))
    assert not at.exception
    assert "not known: the weights are those of the timed layers" in text


@pytest.mark.parametrize(("model", "context", "batch"), CASES)
def test_what_pages_say_is_true_of_the_model(model: str, context: int, batch: int) -> None:
    spec = spec_of(model)
    for page in PAGES:
        text = drawn(page, model, context, batch)
        assert not (found := BAD.search(text)), (page, text[max(0, found.start() - 90) : found.end() + 60])
        if not sharing.has_attention(spec) and page != "pages/published.py":
            assert not (found := HEADS.search(text)), (page, text[max(0, found.start() - 90) : found.end() + 60])


def test_a_latent_vector_is_named_where_sharing_is() -> None:
    for page in ("app.py", "pages/spectrum.py", "pages/kv_cache.py", "pages/roofline.py", "pages/compare.py"):
        assert "MLA" in drawn(page, MODELS["latent"], 8192, 1), page
    for page in ("app.py", "pages/spectrum.py"):
        assert "549 MiB" in drawn(page, MODELS["latent"], 8192, 1)
        assert "71.1×" in drawn(page, MODELS["latent"], 8192, 1)
    for page in ("app.py", "pages/heads.py", "pages/spectrum.py"):
        assert "all read one latent vector per token" in drawn(page, MODELS["latent"], 8192, 1), page


def test_nothing_is_promised_where_a_load_does_not_fit() -> None:
    fit = drawn("pages/fit.py", MODELS["too large"], 8192, 1)
    assert fit.index("does not fit") < fit.index("Longest context")
    assert "One decode step: –" in fit
    why = drawn("pages/why.py", MODELS["too large"], 8192, 1)
    assert "Does not fit" in why
    assert "16 accelerators" in why
    roofline = drawn("pages/roofline.py", MODELS["too large"], 8192, 1)
    assert "does not fit" in roofline
    assert "tokens/s" not in "".join(line for line in roofline.splitlines() if "binds" in line)


def config(name: str) -> str:
    return (ROOT / "tests" / "data" / "configs" / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "model"),
    [("deepseek-ai__DeepSeek-V3", "deepseek-ai/DeepSeek-V3"), ("Qwen__Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B")],
)
def test_a_pasted_model_has_its_published_twins_numbers(name: str, model: str) -> None:
    pasted = json.dumps(json.loads(config(name)))
    spec = spec_of(model)
    assert spec.parameters is not None
    weights = units.binary_bytes(weight_bytes(spec.parameters.total, "bf16"))
    size = units.binary_bytes(cache_bytes(spec, 8192, 1).state_bytes)
    for page in ("pages/fit.py", "pages/why.py", "pages/kv_cache.py"):
        text = drawn(page, pasted, 8192, 1)
        assert weights in text, page
        assert units.parameters(spec.parameters.active) in text or page == "pages/compare.py"
    step = drawn("pages/decode_step.py", pasted, 8192, 1)
    assert units.binary_bytes(weight_bytes(spec.parameters.read, "bf16")) in step
    assert "type it under More" not in step
    compared = drawn("pages/compare.py", pasted, 8192, 1)
    assert "Pasted config.json" in compared
    assert size in compared


def test_a_pasted_model_that_nobody_can_count_is_asked_for() -> None:
    pasted = json.dumps(json.loads(config("baichuan-inc__Baichuan-M1-14B-Instruct")))
    for page in ("pages/fit.py", "pages/why.py"):
        text = drawn(page, pasted, 8192, 1)
        assert "counted" in text or "State the parameters" in text
        assert "tokens/s" not in text


def test_the_story_counts_recurrent_states_once() -> None:
    spec = spec_of(MODELS["recurrent only"])
    frame = decode.trace(spec, published.accelerator("h100-sxm"), Load(8192)).frames[-1]
    assert frame.cache_bytes == cache_bytes(spec, 8192).state_bytes == frame.written_bytes


def test_a_stated_count_is_read_whole_and_says_so() -> None:
    spec = replace(spec_of(MODELS["GQA"]), weights=None, n_parameters=7_000_000_000)
    assert spec.parameters == Parameters(7_000_000_000)
    story = decode.trace(spec, published.accelerator("h100-sxm"), Load(8))
    assert any("stated" in note for note in story.notes)
