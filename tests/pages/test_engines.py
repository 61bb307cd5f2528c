"""The page on engines: its numbers are the ledger's, and a pasted log is explained and not kept."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.test_pages import assert_sound, open_page, said
from ui.sections import engines_log

GEMMA = "google/gemma-3-27b-pt"
SECRET = "hf_AbCdEfGhIjKlMnOp"
LOG = (
    f"model='/srv/{SECRET}/Qwen/Qwen3-8B', 'hf_token': '{SECRET}'\nvLLM API server version 0.33.0\n"
    "max_model_len=40960, max_num_batched_tokens=8192,\nAvailable KV cache memory: 20.00 GiB\n"
    "GPU KV cache size: 145,632 tokens, Maximum concurrency for 40,960 tokens per request: 3.56x\n"
)


def engines(**query: str) -> AppTest:
    at = open_page("pages/engines.py", **query)
    assert_sound(at)
    return at


def paste(at: AppTest, text: str) -> AppTest:
    at.text_area(key="eng_log").set_value(text).run()
    return at.button(key="eng_log_explain").click().run()


def metrics(at: AppTest) -> dict[str, Any]:
    return {metric.label: metric.value for metric in at.metric}


def test_numbers_are_the_ledgers() -> None:
    at = engines(model=GEMMA, context="131072", eng_memory="30")
    assert metrics(at) == {
        "The states need at least": "10.4 GiB",
        "vLLM sets aside": "14.2 GiB",
        "A step reads": "10.4 GiB",
        "vLLM prints, on one accelerator": "276,405 tokens",
    }
    assert "GPU KV cache size: 276,405 tokens" in "\n".join(code.value for code in at.code)


@pytest.mark.parametrize("engine", ["sglang", "llama.cpp", "tensorrt-llm"])
def test_lines_of_every_engine(engine: str) -> None:
    at = engines(eng_engine=engine, eng_memory="8")
    assert not at.warning, said(at)
    assert len(at.code) >= 1


def test_memory_is_what_the_driver_shows_where_that_is_known() -> None:
    # nvidia-smi: 81,559 MiB on an H100 SXM; 16,060,522,496 bytes of weights
    text = said(engines(model="meta-llama/Llama-3.1-8B"))
    memory = 81559 * 2**20 * 9 // 10 - 2**30 - 16_060_522_496
    assert f"{memory / 2**30:.1f} GiB" in text
    assert "as its driver shows them" in text
    assert "as its driver shows them" not in said(engines(model="meta-llama/Llama-3.1-8B", eng_acc="l4"))


def test_weights_that_leave_no_memory_are_said() -> None:
    at = engines(model="meta-llama/Llama-3.1-405B")
    assert "leave no memory for a cache" in at.warning[0].value
    assert "vLLM prints, on one accelerator" not in metrics(at)


def test_a_pasted_log_is_explained_and_dropped() -> None:
    at = paste(engines(), LOG)
    assert_sound(at)
    text = said(at)
    assert "Qwen/Qwen3\\-8B" in text or "Qwen/Qwen3-8B" in text
    assert text.count("reproduced to the digit") == 2
    assert at.text_area(key="eng_log").value == ""
    assert SECRET not in text
    kept = at.session_state._state.filtered_state
    assert SECRET not in repr(kept)
    assert kept["_eng_log"][0].names == ()
    assert not any("eng_log" in key or "Qwen" in str(value) for key, value in at.query_params.items())


def test_a_log_is_held_against_the_model_above_if_asked() -> None:
    at = paste(engines(model="meta-llama/Llama-3.1-8B"), LOG)
    at.checkbox(key="eng_log_above").check().run()
    assert "cannot be explained" in said(at)
    unnamed = paste(engines(model="Qwen/Qwen3-8B"), LOG.replace("Qwen3-8B", "mine"))
    assert "held against the one above" in said(unnamed)
    assert said(unnamed).count("reproduced to the digit") == 2


def test_the_example_is_reproduced() -> None:
    at = engines()
    at.button(key="eng_log_try").click().run()
    assert "reproduced to the digit" in said(at)
    assert [area.value for area in at.text_area] == [""]


def test_what_is_no_log_is_said() -> None:
    at = paste(engines(), "hello")
    assert "no start\\-up line" in said(at) or "no start-up line" in said(at)
    at = paste(at, "x" * (engines_log.MAX_LOG + 1))
    assert "at most 1 MB" in said(at)
    assert "Paste the start" in said(paste(at, "  "))
    assert_sound(at)
