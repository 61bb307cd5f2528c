"""TensorRT-LLM's start-up lines as they were printed, and what the report says where nothing explains them."""

from __future__ import annotations

import pytest

from attention.catalog.sources import resolve
from attention.engines.explain import Known, explain
from attention.engines.lines import predict
from attention.engines.log import read
from attention.engines.report import Report

# a DGX Spark of December 2025, cut to the lines about the cache
SPARK = """\
Starting trtllm-serve for model openai/gpt-oss-120b on port 8355...
[TensorRT-LLM] TensorRT-LLM version: 1.1.0rc3
[12/20/2025-04:20:19] [TRT-LLM] [I] PyTorchConfig(kv_cache_dtype='auto', mamba_ssm_cache_dtype='auto')
[TensorRT-LLM][INFO] Number of tokens per block: 32.
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.56 GiB for max tokens in paged KV cache (8224).
[12/20/2025-04:21:51] [TRT-LLM] [I] fraction is set 0.8999999761581421, kv size is 73728. device total memory 119.70 GiB
[TensorRT-LLM][INFO] Number of tokens per block: 32.
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 5.95 GiB for max tokens in paged KV cache (86720).
"""
# a guide to an RTX 5090: Llama-3.1-8B-Instruct, its cache in fp8
GUIDE = """\
trtllm-serve for model meta-llama/Llama-3.1-8B-Instruct
[TensorRT-LLM][INFO] Memory usage when calculating max tokens in paged kv cache: total: 31.84 GiB, available: 17.83 GiB
[TensorRT-LLM][INFO] Number of blocks in KV cache primary pool: 8219
[TensorRT-LLM][INFO] Number of tokens per block: 32.
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 16.05 GiB for max tokens in paged KV cache (263008)
"""
OLD = """\
[TensorRT-LLM][INFO] Allocate 69524783104 bytes for k/v cache.
[TensorRT-LLM][INFO] Using 132608 tokens in paged KV cache.
"""


def explained(text: str, model: str | None = None, **stated: object) -> Report:
    known = Known(resolve(model), None) if model else None
    return explain(read(text.encode()), known, **stated)


def test_every_figure_of_a_log() -> None:
    report = explained(SPARK)
    assert (report.model, report.version) == ("openai/gpt-oss-120b", "1.1.0")
    assert [finding.verdict for finding in report.findings] == ["reproduced"] * 3
    assert report.findings[1].parts[0].n_bytes == 86720 * 73728
    assert report.changes[0].after == 173440, "fp8 has half the bytes"
    assert any("full length" in note for note in report.notes)


def test_a_cache_in_fp8_is_found_where_nothing_states_it() -> None:
    report = explained(GUIDE)
    assert [finding.verdict for finding in report.findings] == ["split", "reproduced", "given"]
    assert "in fp8" in report.findings[0].says
    stated = explained(GUIDE, kv_dtype="fp8")
    assert stated.findings[0].verdict == "reproduced"


def test_bytes_are_held_to_the_byte() -> None:
    # TensorRT-LLM #1400, sizes of LLaMA-7B
    [finding] = explained(OLD, "huggyllama/llama-7b").findings
    assert (finding.verdict, finding.parts[0].n_bytes) == ("reproduced", 69_524_783_104)
    [other] = explained(OLD, "huggyllama/llama-13b").findings
    assert other.verdict == "unexplained"
    assert other.parts[0].n_bytes == 132608 * 40 * 5120 * 4 - 69_524_783_104


def test_the_predicted_lines_are_explained() -> None:
    lines = predict("tensorrt-llm", resolve("Qwen/Qwen3-8B"), None, 2**34, 4096)
    text = "[TensorRT-LLM][INFO] \n" + "\n".join(line.text for line in lines)
    assert {f.verdict for f in explained(text, "Qwen/Qwen3-8B").findings} == {"reproduced"}


def test_what_is_not_explained_says_how_many_bytes() -> None:
    text = "[TensorRT-LLM] Allocated 9.00 GiB for max tokens in paged KV cache (3200).\n[TRT-LLM] kv size is 7.\n"
    first, second = explained(text, "Qwen/Qwen3-8B").findings
    assert (first.verdict, second.verdict) == ("unexplained", "unexplained")
    assert first.parts[-1].n_bytes == 9 * 2**30 - 3200 * 147456
    with pytest.raises(ValueError, match="cache dtype must be"):
        explained(text, "Qwen/Qwen3-8B", kv_dtype="q8_0")
