"""More lines that engines printed, to the digit, each with where it was found: a thread, or the subject of a file."""

from __future__ import annotations

from typing import Any

import pytest

from attention.catalog import published
from attention.engines import llama_cpp, sglang
from attention.engines.explain import Known, explain
from attention.engines.log import read
from attention.engines.report import gib, rounded
from attention.engines.rules import conv_kernel
from attention.engines.vllm import Plan, Settings, plan
from attention.spec import ModelSpec, uniform_spec


def shape(name: str) -> ModelSpec:
    spec = published.model(name).spec
    assert spec is not None
    return spec


def planned(spec: ModelSpec | str, **settings: Any) -> Plan:
    if isinstance(spec, ModelSpec):
        return plan(spec, Settings(dtype="bf16", **settings))
    return plan(shape(spec), Settings(conv_kernel=conv_kernel(published.model(spec).config), **settings))


@pytest.mark.parametrize(
    ("model", "tp", "memory", "tokens", "length", "concurrency"),
    [
        # a gateway on DGX Spark: Qwen2.5-1.5B-Instruct
        ("Qwen/Qwen2.5-1.5B", 1, "0.56", 20992, None, None),
        # a Chinese guide to concurrency: weights of 62.46 GiB, 64 layers of 8 K/V heads
        (uniform_spec(64, 40, 8, 128), 1, "5.14", 21056, 7250, "2.90"),
        # a benchmark's A100-SXM4-40GB, Llama-3.1-8B
        ("meta-llama/Llama-3.1-8B", 1, "19.92", 163168, None, None),
        # Ministral-3-14B on two A40, vLLM 0.12
        (uniform_spec(40, 32, 8, 128), 2, "52.36", 686320, 100000, "6.86"),
    ],
)
def test_vllm(
    model: ModelSpec | str, tp: int, memory: str, tokens: int, length: int | None, concurrency: str | None
) -> None:
    pool = planned(model, tp=tp, max_model_len=length or 8192)
    held = rounded(memory)
    blocks = tokens // 16
    assert pool.tokens(blocks, "tokens by groups") == tokens
    assert pool.blocks(held.low) <= blocks <= pool.blocks(held.high)
    assert concurrency is None or f"{pool.concurrency(blocks):.2f}" == concurrency


def test_llama_4_before_chunks_had_groups() -> None:
    # vLLM's hybrid manager, a design note: Llama 4 Scout, TP 8, max seq len 10,485,760: 240.00 GiB needed, 88.38 left,
    # 3,861,424 tokens fit
    pool = planned("meta-llama/Llama-4-Scout-17B-16E-Instruct", tp=8, hybrid_manager=False)
    assert gib(pool.request_blocks(10485760) * pool.block_bytes) == "240.00"
    assert pool.longest(rounded("88.38").low) <= 3861424 <= pool.longest(rounded("88.38").high)


def test_kimi_linear() -> None:
    # vllm #28228, November 2025: TP 2, 2.30 GiB: 75,840 tokens, 2.48x at 120,000. Blocks of latents were whole 64s
    # then (960 tokens here), and are whole 128s in 0.33
    name, held = "moonshotai/Kimi-Linear-48B-A3B-Instruct", rounded("2.30")
    pool = planned(name, tp=2, max_model_len=120000, block_tokens=960)
    blocks = range(pool.blocks(held.low), pool.blocks(held.high) + 1)
    assert {pool.tokens(n, "tokens by groups") for n in blocks} == {75840}
    assert "2.48" in {f"{pool.concurrency(n):.2f}" for n in blocks}


def test_gemma_4_e2b() -> None:
    # a log book of a container in Spanish: 0.93 GiB, 106,443 tokens, 3.25x at 32,768
    pool, held = planned("google/gemma-4-E2B", max_model_len=32768), rounded("0.93")
    found = [n for n in range(pool.blocks(held.low), pool.blocks(held.high) + 1)
             if pool.tokens(n, "tokens by concurrency") == 106443]  # fmt: skip
    assert found
    assert {f"{pool.concurrency(n):.2f}" for n in found} == {"3.25"}


@pytest.mark.parametrize(
    ("model", "n_ctx", "printed"),
    [
        ("Qwen/Qwen2.5-3B", 4096, "144.00"),  # LLamaSharp #1099
        ("meta-llama/Llama-3.1-70B", 4096, "1280.00"),  # a cluster of two RPC servers
        (uniform_spec(16, 32, 8, 64), 1024, "32.00"),  # Llama-3.2-1B sizes
        (uniform_spec(16, 32, 8, 64), 4096, "128.00"),  # WASI-NN, the same
        (uniform_spec(28, 24, 8, 128), 1024, "112.00"),  # Llama-3.2-3B sizes
        (uniform_spec(32, 32, 32, 96), 4096, "1536.00"),  # Phi-3-mini sizes
        (uniform_spec(24, 32, 32, 64), 1024, "192.00"),  # SmolLM2-1.7B sizes
        ("Qwen/Qwen3-8B", 131072, "18432.00"),  # LM Studio, July 2025: 9728.00 on CUDA0, 8704.00 on the CPU
        (uniform_spec(16, 24, 4, 256), 24576, "1536.00"),  # Qwen3.8-27B on a 16 GB card
        (uniform_spec(16, 24, 4, 256), 8192, "512.00"),
        (uniform_spec(8, 16, 4, 256), 135168, "4224.00"),  # Qwen3.5-9B sizes
    ],
)
def test_llama_cpp(model: ModelSpec | str, n_ctx: int, printed: str) -> None:
    spec = shape(model) if isinstance(model, str) else model
    [pool] = llama_cpp.pools(spec, llama_cpp.Settings(n_ctx))
    assert llama_cpp.mib(pool.total_bytes) == printed


@pytest.mark.parametrize(
    ("model", "sequences", "r", "s", "total"),
    [
        # Qwen3.8-27B has the sizes of Qwen3.5-27B
        ("Qwen/Qwen3.5-27B", 1, "5.62", "144.00", "149.62"),
        # a guide to Qwen3.5-35B-A3B: four sequences, then two
        ("Qwen/Qwen3.5-35B-A3B", 4, "11.25", "240.00", "251.25"),
        ("Qwen/Qwen3.5-35B-A3B", 2, "5.62", "120.00", "125.62"),
    ],
)
def test_states_of_llama_cpp(model: str, sequences: int, r: str, s: str, total: str) -> None:
    kernel = conv_kernel(published.model(model).config)
    settings = llama_cpp.Settings(8192, n_seq_max=sequences, conv_kernel=kernel)
    pool = next(pool for pool in llama_cpp.pools(shape(model), settings) if pool.name == "recurrent")
    assert tuple(map(llama_cpp.mib, (pool.k_bytes, pool.v_bytes, pool.total_bytes))) == (r, s, total)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("149.62 MiB (1 cells, 64 layers, 1 seqs), R (f32): 5.62 MiB, S (f32): 144.00 MiB", 0),
        # the two totals stand in reports of a desktop application and of an AMD server, R and S follow from them
        ("448.88 MiB (1 cells, 64 layers, 1 seqs 2 rs_seq), R (f32): 16.88 MiB, S (f32): 432.00 MiB", 2),
        ("1047.38 MiB (1 cells, 64 layers, 1 seqs 6 rs_seq), R (f32): 39.38 MiB, S (f32): 1008.00 MiB", 6),
    ],
)
def test_states_to_go_back_to(line: str, kept: int) -> None:
    log = read(f"llama_context: n_ctx = 8192\nllama_memory_recurrent: size = {line}\n".encode())
    name = "Qwen/Qwen3.5-27B"
    report = explain(log, Known(shape(name), conv_kernel(published.model(name).config)))
    [finding] = [one for one in report.findings if "R (f32)" in one.line]
    assert finding.verdict == "reproduced"
    assert ("kept states" in finding.rules) is bool(kept)


@pytest.mark.parametrize(
    ("model", "settings", "tokens", "k"),
    [
        # March 2025: a Qwen2 model of 62 GB (64 layers) on four ranks
        ("Qwen/Qwen2.5-32B", {"tp": 4}, 46611, "1.42"),
        # kvcached on WSL 2: gpt2, "Physical KV Cache limits by --mem-fraction-static"
        ("openai-community/gpt2", {}, 248479, "4.27"),
        # SGLang's notebook of May 2026, Meta-Llama-3.1-8B-Instruct
        ("meta-llama/Llama-3.1-8B", {}, 20480, "1.25"),
        # a study of retrieval, 36 layers of 8 K/V heads
        ("Qwen/Qwen3-8B", {}, 430067, "29.53"),
        # Qwen3.5-27B with a DFlash draft, fp8
        ("Qwen/Qwen3.5-27B", {"kv_dtype": "fp8"}, 499968, "7.63"),
    ],
)
def test_sglang(model: str, settings: dict[str, Any], tokens: int, k: str) -> None:
    kernel = conv_kernel(published.model(model).config)
    slot = sglang.slots(shape(model), sglang.Settings(conv_kernel=kernel, **settings))
    assert gib((tokens + 1) * slot.k) == gib((tokens + 1) * slot.v) == k


def test_two_pools_of_sglang() -> None:
    # DGX Spark: gemma-4-26b-a4b-it: "SWAKVPool mem usage: 36.69 GB, swa size: 171008, full size: 213761"
    slot = sglang.slots(shape("google/gemma-4-26B-A4B"), sglang.Settings())
    assert 213761 * 4 // 5 == 171008
    assert gib(213762 * slot.token_bytes + 171009 * slot.window_bytes) == "36.69"


def test_states_of_sglang() -> None:
    # February 2026, GraniteMoeHybridForCausalLM of 5.98 GB: max_mamba_cache_size: 38, conv 0.03 GB, ssm 2.74 GB;
    # 399,740 tokens, K and V 1.52 GB
    name = "ibm-granite/granite-4.0-h-micro"
    kernel = conv_kernel(published.model(name).config)
    slot = sglang.slots(shape(name), sglang.Settings(conv_kernel=kernel, dtype="bf16"))
    assert (gib(39 * slot.conv), gib(39 * slot.state)) == ("0.03", "2.74")
    assert (gib(399741 * slot.k), gib(399741 * slot.v)) == ("1.52", "1.52")
