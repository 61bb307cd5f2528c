"""The decode loop on the packaged model: words, bytes, what it reports, and what it refuses."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch

from attention import cli
from attention.catalog.sources import resolve
from attention.jobs import generate as job
from attention.llm import corpus, generate, loaded, place
from attention.llm.plan import Plan, check_prompt
from attention.llm.written import Written
from attention.memory.footprint import cache_of
from attention.memory.load import Load
from tests.llm.real import needed
from tests.long import long
from tests.torch_threads import torch_threads

PROMPT = "What is the capital of France? Answer in one sentence."


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    with torch_threads(1):
        yield


def _run(plan: Plan, stop_after: int | None = None) -> tuple[Written, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []

    def emit(item: dict[str, Any]) -> None:
        if "progress" not in item:
            told.append(item)

    def should_stop() -> bool:
        rows = sum(len(item.get("rows", ())) for item in told)
        return stop_after is not None and rows >= stop_after

    generate.run(loaded.get(), plan, emit, should_stop)
    return Written().take_in(json.loads(json.dumps(told))), told


@pytest.fixture(scope="module")
def written() -> Written:
    return _run(Plan(PROMPT, tokens=8))[0]


@needed
def test_copied_heads_write_the_same_words_and_merged_ones_do_not(written: Written) -> None:
    columns = written.columns
    assert columns["mha"].text == columns["gqa"].text
    assert "Paris" in columns["gqa"].text
    assert columns["mqa"].text != columns["gqa"].text
    assert [written.title(name) for name in columns] == ["MHA-9", "GQA-3", "MQA-1"]


@needed
def test_cache_bytes_of_the_tensors_are_those_of_the_calculator(written: Written) -> None:
    spec = resolve(str(place.local()))
    own = written.columns["gqa"]
    assert own.cache_bytes == cache_of(spec, Load(own.context, 1, "bf16")).state_bytes
    assert written.columns["mha"].cache_bytes == 3 * own.cache_bytes


@needed
def test_what_a_run_will_need_is_known_before_it() -> None:
    small = job.estimate_bytes({"prompt": PROMPT, "tokens": 1})
    large = job.estimate_bytes({"prompt": PROMPT, "tokens": 1, "context_fill": 5000, "batch": 16})
    # 13 K/V heads of the three columns: 30 layers, keys and values of 64 elements in two bytes
    per_token = 13 * 30 * 2 * 64 * 2
    n_prompt = len(loaded.get().tokens.prompt(PROMPT, True))
    assert large - small == per_token * (16 * (5001 + n_prompt) - (1 + n_prompt))


@needed
def test_a_cache_of_fewer_bits_is_smaller_and_its_bytes_are_the_calculators() -> None:
    written, _ = _run(Plan(PROMPT, ("gqa",), tokens=2, kv_dtype="q8_0", v_dtype="q4_0"))
    own = written.columns["gqa"]
    spec = resolve(str(place.local()))
    both = [cache_of(spec, Load(own.context, 1, name)).state_bytes for name in ("q8_0", "q4_0")]
    assert 2 * own.cache_bytes == sum(both)
    assert written.about["kv_dtype"] == "q8_0 (keys) and q4_0 (values)"
    small = job.estimate_bytes({"prompt": PROMPT, "tokens": 1, "context_fill": 5000, "kv_dtype": "q4_0"})
    assert small < job.estimate_bytes({"prompt": PROMPT, "tokens": 1, "context_fill": 5000})


@needed
def test_a_merge_that_is_stopped_is_heard_at_the_next_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CALIBRATION_WINDOWS", 1)
    monkeypatch.setattr(corpus, "CALIBRATION_LENGTH", 11)
    told: list[dict[str, Any]] = []
    plan = Plan(PROMPT, ("mqa",), tokens=1, merge="calibrated")
    found = generate.run(loaded.get(), plan, told.append, lambda: len(told) > 2)
    assert found == {"columns": {}}
    assert [item["message"].partition(": ")[2] for item in told] == [f"layer {i} of 30" for i in (1, 2, 3)]


@long("greedy runs of the same model")
@needed
def test_the_same_seed_draws_the_same_words() -> None:
    first, again, other = (
        _run(Plan(PROMPT, ("gqa",), tokens=4, temperature=1.8, seed=seed))[0].columns["gqa"].text for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


@long("small models read a prompt in pieces")
@needed
def test_a_context_filled_beforehand_is_one_that_was_read() -> None:
    """Copied into the multi-head cache, a context gives the same words as when it is read with nine K/V heads."""
    together, _ = _run(Plan(PROMPT, ("mha", "gqa"), tokens=3, context_fill=61, kv_dtype="fp32"))
    alone, _ = _run(Plan(PROMPT, ("mha",), tokens=3, context_fill=61, kv_dtype="fp32"))
    assert together.columns["mha"].text == alone.columns["mha"].text
    assert together.columns["gqa"].context == 61 + together.about["prompt_tokens"] + 2


@needed
def test_stopped_in_the_middle_of_a_sentence_the_text_so_far_stays() -> None:
    written, _ = _run(Plan(PROMPT, ("gqa",), tokens=200), stop_after=2)
    column = written.columns["gqa"]
    # reported ten times a second, however many tokens there are
    assert 3 <= column.n_tokens < 200
    assert column.text
    assert not column.ended


@needed
@pytest.mark.parametrize("text", ["🙂🙃", "مرحبا بالعالم", "naïve Ünïcödé", "<|im_end|> is text", "a\tb\nc"])
def test_any_text_comes_back_as_it_was(text: str) -> None:
    tokens = loaded.get().tokens
    ids = tokens.encode(text)
    assert tokens.decode(ids) == text
    assert not tokens.ends & {*ids}


@needed
def test_more_than_the_context_is_refused_with_its_sum() -> None:
    with pytest.raises(ValueError, match=r"8,000 tokens of context, \d+ of the prompt and 512 to write make 8,5\d\d"):
        _run(Plan(PROMPT, tokens=512, context_fill=8000))


@needed
@pytest.mark.skipif(not os.environ.get("HEADSHARE_SOAK"), reason="transformers takes half a minute to convert the file")
def test_logits_of_200_tokens_are_those_of_transformers_on_the_same_file() -> None:
    import transformers

    path = place.local()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    model, ids = loaded.get().model, torch.tensor([corpus.windows(loaded.get().tokens, 219, 2)[1]])
    with torch.inference_mode():
        expected = theirs(ids).logits
    caches = model.caches(219)
    parts = [model.forward(ids[:, :19], caches, every=True)]
    parts += [model.forward(ids[:, at : at + 1], caches) for at in range(19, 219)]
    found = torch.cat(parts, dim=1)
    if model.kinds == ("float32",):
        # 30 layers of some 20 roundings of 2^-24, once for either program: 7e-5; float32 angles at 218: 1.3e-5 twice
        assert (found - expected).abs().amax() < 1e-4 * expected.abs().amax()
    else:
        # blocks meet numbers of 16 bits: tests/llm/test_products.py, with 120 products in a row
        assert (found - expected).abs().amax() < (5e-5 * 120**0.5 + 1e-4) * expected.abs().amax()
    # two tokens whose logits differ by less than that may change places
    taken = expected.gather(-1, found.argmax(-1, keepdim=True))[..., 0]
    assert (expected.amax(-1) - taken <= 2e-3 * expected.abs().amax()).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at least one character that is no blank"),
        (" \n\t ", "at least one character that is no blank"),
        ("x" * 100_000, "at most 20,000 characters, got 100,000"),
        ("a\x00b", r"U\+0000 as its character 2"),
        ("abc\x1b[31m", r"U\+001B as its character 4"),
        ("\ud800", r"U\+D800 as its character 1"),
        (5, "must be a text"),
    ],
)
def test_what_is_no_prompt_is_refused(text: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_prompt(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sharings", ["mla"]), ("sharings", []), ("sharings", ["gqa", "gqa"]), ("sharings", "gqa"), ("tokens", 0),
        ("tokens", True), ("temperature", -1), ("temperature", float("nan")), ("seed", 2**31), ("context_fill", -1),
        ("kv_dtype", "int3"), ("v_dtype", "int3"), ("merge", "max"), ("batch", 17), ("chat", 1),
    ],
)  # fmt: skip
def test_a_payload_is_checked_field_by_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        job.run({"prompt": "a", field: value}, lambda item: None, lambda: False)


def test_without_the_model_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(place, "PACKAGE", "no_such_package_here")
    assert cli.main(["generate", "a"]) == 2
    assert "requirements-model.txt" in capsys.readouterr().err
