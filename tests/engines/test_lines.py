"""The lines that `fit --engine` says an engine will print, and that a log of just these lines is explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attention import cli
from attention.catalog.sources import resolve
from attention.engines.lines import Line, predict
from attention.engines.rules import kernel_of


def lines(engine: str, name: str, memory: int | None, context: int, **more: Any) -> tuple[Line, ...]:
    spec = resolve(name)
    return predict(engine, spec, kernel_of(spec, name), memory, context, **more)


def test_the_lines_that_vllm_was_seen_to_print() -> None:
    texts = [line.text for line in lines("vllm", "google/gemma-3-27b-pt", 30 * 2**30, 131072)]
    assert texts == [
        "Available KV cache memory: 30.00 GiB",
        "GPU KV cache size: 276,405 tokens, Maximum concurrency for 131,072 tokens per request: 2.11x",
    ]


def test_the_lines_that_llama_cpp_was_seen_to_print() -> None:
    # asked: SmolLM2-135M at 8,000 tokens; Gemma 3 27B at 32,768
    [line] = lines("llama.cpp", "HuggingFaceTB/SmolLM2-135M", None, 8000, kv_dtype="q8_0")
    assert "size =   95.62 MiB (  8192 cells,  30 layers,  1/1 seqs), K (q8_0):   47.81 MiB" in line.text
    full, window = lines("llama.cpp", "google/gemma-3-27b-pt", None, 32768)
    assert "size = 2560.00 MiB ( 32768 cells,  10 layers" in full.text
    assert "size =  624.00 MiB (  1536 cells,  52 layers" in window.text


def test_a_request_that_does_not_fit() -> None:
    _, line = lines("vllm", "meta-llama/Llama-3.1-8B", 2**30, 8193)
    assert line.text.startswith("1.00 GiB KV cache is needed")
    assert "8,192 tokens fit" in line.says
    assert "GPU KV cache size" in lines("vllm", "meta-llama/Llama-3.1-8B", 2**30, 8192)[1].text


def test_what_is_left_of_the_memory() -> None:
    for memory, says in ((2**30 + 7, "7 bytes of the memory are left"), (2**30 - 7, "7 bytes more than the memory")):
        assert lines("llama.cpp", "meta-llama/Llama-3.1-8B", memory, 8192)[-1].says == says


def test_every_sequence_has_its_context() -> None:
    [line] = lines("llama.cpp", "meta-llama/Llama-3.1-8B", None, 2000, n_sequences=3)
    assert "size =  768.00 MiB (  2048 cells,  32 layers,  3/3 seqs)" in line.text


def test_what_is_refused_says_why() -> None:
    with pytest.raises(ValueError, match="state --memory"):
        lines("vllm", "meta-llama/Llama-3.1-8B", None, 8192)
    with pytest.raises(ValueError, match="several accelerators"):
        lines("llama.cpp", "meta-llama/Llama-3.1-8B", None, 8192, tp=2)
    with pytest.raises(ValueError, match="type_k must be one of"):
        lines("llama.cpp", "meta-llama/Llama-3.1-8B", None, 8192, kv_dtype="int4")


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
@pytest.mark.parametrize(
    "name",
    ["openai/gpt-oss-20b", "google/gemma-3-12b-pt", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-Next-80B-A3B-Instruct"],
)
def test_a_log_of_the_predicted_lines_is_explained(
    name: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--engine", engine, "--memory", "20G", "--context", "30000", "--json"]
    assert cli.main(["fit", name, *settings]) == 0
    said = json.loads(capsys.readouterr().out)["lines"]
    log = tmp_path / "start.log"
    log.write_text("llama_context: n_ctx = 30000\nvllm\n" + "".join(f"{line['text']}\n" for line in said))
    assert cli.main(["log", str(log), "--model", name, "--json"]) == 0
    verdicts = [figure["verdict"] for figure in json.loads(capsys.readouterr().out)["figures"]]
    assert set(verdicts) == {"given", "reproduced"}


def test_memory_without_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "meta-llama/Llama-3.1-8B", "--memory", "1G"]) == 2
    assert "--memory needs --engine" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "said"), [("30GiB", "30.00 GiB"), ("30G", "30.00 GiB"), ("1024MiB", "1.00 GiB")])
def test_memory_is_typed_as_it_is_written(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "google/gemma-3-27b-pt", "--engine", "vllm", "--memory", typed, "--context", "1k"]) == 0
    assert said in capsys.readouterr().out


def test_lines_of_sglang() -> None:
    # vllm #21348, from the memory that its 367,404 tokens need
    memory = 367404 * 48128 + 1000
    [line, total] = lines("sglang", "Qwen/Qwen3-235B-A22B", memory, 8192, tp=4)
    assert line.text == "KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB"
    assert total.text == "max_total_num_tokens=367404"
    windows = [line.text for line in lines("sglang", "openai/gpt-oss-20b", 20 * 2**30, 8192)]
    assert windows[0].startswith("Use sliding window memory pool. full_layer_tokens=485")
    assert len(windows) == 5
    states = lines("sglang", "Qwen/Qwen3-Next-80B-A3B-Instruct", 20 * 2**30, 8192)[0].text
    assert states.startswith("Mamba Cache is allocated. max_mamba_cache_size: 130, conv_state size: 0.22GB")
    latent = lines("sglang", "deepseek-ai/DeepSeek-V3", 2**30, 8192)[0].text
    assert latent == "KV Cache is allocated. #tokens: 15279, KV size: 1.00 GB"


def test_lines_of_tensorrt_llm() -> None:
    *_, line = lines("tensorrt-llm", "meta-llama/Llama-3.1-8B", 2**30 + 7, 8192)
    assert line.text == "Allocated 1.00 GiB for max tokens in paged KV cache (8192)."
    with pytest.raises(ValueError, match="pools of several windows"):
        lines("tensorrt-llm", "openai/gpt-oss-20b", 2**30, 8192)
    with pytest.raises(ValueError, match="state --memory"):
        lines("tensorrt-llm", "meta-llama/Llama-3.1-8B", None, 8192)
