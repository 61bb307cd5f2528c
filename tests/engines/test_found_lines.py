"""Lines that engines printed, from public threads and repositories, to the digit; each with where it was found.

A repository without a number is named by what it holds. A model that is not in the catalogue is given by its sizes.
"""

from __future__ import annotations

from typing import Any

import pytest

from attention.catalog import published
from attention.engines import llama_cpp, sglang, tensorrt_llm
from attention.engines.report import gib, rounded
from attention.engines.rules import conv_kernel
from attention.engines.vllm import Plan, plan
from attention.engines.vllm_layers import Settings
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, latent_layer, uniform_spec

GEMMA_3_270M = ModelSpec(
    "3 x (5 windows, full)", ((attention_layer(4, 1, 256, 512),) * 5 + (attention_layer(4, 1, 256),)) * 3
)


def planned(name: str, **settings: Any) -> Plan:
    row = published.model(name)
    assert row.spec is not None
    return plan(row.spec, Settings(conv_kernel=conv_kernel(row.config), **settings))


def shape(name: str) -> ModelSpec:
    spec = published.model(name).spec
    assert spec is not None
    return spec


@pytest.mark.parametrize(
    ("memory", "blocks", "length", "concurrency"), [("3.81", 1952, 20000, "1.56"), ("2.89", 1478, 29000, "0.82")]
)
def test_two_runs_of_llama(memory: str, blocks: int, length: int, concurrency: str) -> None:
    # vllm #10517, Llama-3.1-8B: "GPU blocks", and "the maximum number of tokens that can be stored in KV cache (23648)"
    pool = planned("meta-llama/Llama-3.1-8B", max_model_len=length)
    held = rounded(memory)
    assert pool.blocks(held.low) <= blocks <= pool.blocks(held.high)
    assert f"{blocks * 16 / length:.2f}" == concurrency
    assert gib(blocks * pool.block_bytes) == memory
    assert pool.tokens(1478, "tokens by groups") == 23648


def test_what_does_not_fit() -> None:
    # tpu-inference #223: Llama-3.1-8B sizes, blocks of 256: 16.00 GiB needed, 0.71 available, 5,632 tokens fit
    pool = planned("meta-llama/Llama-3.1-8B", block_tokens=256)
    assert gib(pool.request_blocks(131072) * pool.block_bytes) == "16.00"
    assert {pool.longest(m) for m in (rounded("0.71").low, rounded("0.71").high)} == {5632}
    # kaito #2132: Mistral-Small-4-119B, latents of 256 + 64 in 36 layers: 22.5 GiB needed, 17.39, 810,208 fit
    latent = ModelSpec("36 latents", (latent_layer(32, 256, 64, 64, 128),) * 36, "bf16")
    pool = plan(latent, Settings())
    assert gib(pool.request_blocks(1048576) * pool.block_bytes) == "22.50"
    assert pool.longest(rounded("17.39").low) <= 810208 <= pool.longest(rounded("17.39").high)


def test_blocks_and_their_concurrency() -> None:
    # vllm #13596: "# GPU blocks: 127626", then "GPU KV cache size: 2,042,016 tokens", 2,048 a request: 997.08x
    pool = planned("meta-llama/Llama-3.1-8B", max_model_len=2048)
    assert pool.tokens(127626, "tokens by groups") == 2042016
    assert f"{pool.concurrency(127626):.2f}" == "997.08"


def test_states_with_prefix_caching() -> None:
    # talos-argocd-proxmox #1995: Qwen3.8-27B-FP8 (sizes of Qwen3.5-27B), TP 2, fp8: blocks of 1,568, 4.99 GiB a rank,
    # 302,921 tokens, 2.31x at 131,072
    pool = planned("Qwen/Qwen3.5-27B", max_model_len=131072, kv_dtype="fp8", tp=2, state_pages=2)
    assert {group.block_tokens for group in pool.groups} == {1568}
    blocks = {pool.blocks(m) for m in (rounded("4.99").low, rounded("4.99").high)}
    assert {pool.tokens(n, "tokens by concurrency") for n in blocks} == {302921}
    assert {f"{pool.concurrency(n):.2f}" for n in blocks} == {"2.31"}


@pytest.mark.parametrize(
    ("draft", "memory", "length", "tokens", "concurrency"),
    [(0, "21.43", 131072, 467712, "11.79"), (1, "24.05", 262144, 482080, "6.42")],
)
def test_a_draft_layer_takes_a_column_a_page_and_its_own_cache(
    draft: int, memory: str, length: int, tokens: int, concurrency: str
) -> None:
    # start-up lines of April 2026 kept beside a configuration: Qwen3.5-122B-A10B in NVFP4, fp8 cache, without and with
    # its MTP layer and one draft token
    pool = planned(
        "Qwen/Qwen3.5-122B-A10B",
        max_model_len=length,
        kv_dtype="fp8",
        state_pages=2,
        draft_tokens=draft,
        extra_layers=draft,
    )
    held = rounded(memory)
    assert {pool.tokens(pool.blocks(m), "tokens by groups") for m in (held.low, held.high)} == {tokens}
    assert {f"{pool.concurrency(pool.blocks(m)):.2f}" for m in (held.low, held.high)} == {concurrency}


@pytest.mark.parametrize(
    ("draft", "kv", "block", "padding"), [(15, "auto", 480, "1.27"), (7, "int8_per_token_head", 864, "1.09")]
)
def test_a_block_is_enlarged_for_the_drafts_columns(draft: int, kv: str, block: int, padding: str) -> None:
    # qwen38-27b-rtx3090 #102: Qwen3.8-27B: "Setting attention block size to 480 tokens", "Padding mamba page size by"
    pool = planned("Qwen/Qwen3.5-27B", kv_dtype=kv, draft_tokens=draft, ssm_dtype="bf16")
    assert {group.block_tokens for group in pool.groups} == {block}
    state = 2 * (48 * 128 * 128 + (3 + draft) * 10240)
    assert f"{100 * (pool.page_bytes - state) / state:.2f}" == padding


LLAMA_3_2_3B = uniform_spec(28, 24, 8, 128)
QWEN_3_5_9B = uniform_spec(8, 16, 4, 256)
OLMOE = uniform_spec(16, 16, 16, 128)


@pytest.mark.parametrize(
    ("spec", "n_ctx", "k", "v", "printed"),
    [
        # llama.cpp #11200: Qwen2.5-Coder-32B, K and V 2176.00
        (shape("Qwen/Qwen2.5-32B"), 32768, "q8_0", "q8_0", "4352.00"),
        # llama-cpp-python of JamePeng, #1: 28 layers of 512, K and V 56.00
        (shape("Qwen/Qwen2.5-7B"), 2048, "f16", "f16", "112.00"),
        # a study of K types, llama.cpp b8247, Llama-3.2-3B, V in f16
        (LLAMA_3_2_3B, 4096, "f16", "f16", "448.00"),
        (LLAMA_3_2_3B, 4096, "q8_0", "f16", "343.00"),
        (LLAMA_3_2_3B, 4096, "q4_0", "f16", "287.00"),
        (LLAMA_3_2_3B, 4096, "q4_1", "f16", "294.00"),
        (LLAMA_3_2_3B, 4096, "q5_0", "f16", "301.00"),
        # a hybrid of 32 layers on Vulkan, 8 of them with a cache, by two builds of llama.cpp; ornith:9b in ollama
        (QWEN_3_5_9B, 262144, "q8_0", "q8_0", "4352.00"),
        (QWEN_3_5_9B, 131072, "f16", "f16", "4096.00"),
        (QWEN_3_5_9B, 131072, "q4_0", "q4_0", "1152.00"),
        (QWEN_3_5_9B, 262144, "f16", "f16", "8192.00"),
        # llama.cpp docs of the Hexagon backend: OLMoE-1B-7B
        (OLMOE, 8192, "q8_0", "q8_0", "544.00"),
        # Qwen3.8-27B: "16, not 17 -- blk.64 gets no row"
        (uniform_spec(16, 24, 4, 256), 32768, "q8_0", "q8_0", "1088.00"),
        # ollama's lines for local models
        (shape("Qwen/Qwen3-8B"), 40960, "f16", "f16", "5760.00"),
        (shape("Qwen/Qwen3-14B"), 16384, "f16", "f16", "2560.00"),
        (shape("Qwen/Qwen2.5-3B"), 16384, "f16", "f16", "576.00"),
        (uniform_spec(10, 16, 2, 256), 32768, "f16", "f16", "640.00"),  # qwen3.6, 10 of 40 layers
        (shape("mistralai/Mistral-7B-v0.3"), 4096, "f16", "f16", "512.00"),
        (shape("google/gemma-7b"), 2048, "f16", "f16", "896.00"),  # February 2024
        # ggml-org's continuous integration: Pythia 2.8B, and an embedding model of 12 layers of 384
        (shape("EleutherAI/pythia-2.8b"), 2048, "f16", "f16", "640.00"),
        (uniform_spec(12, 12, 12, 32), 512, "f16", "f16", "9.00"),
        # 2023: "kv self size  =  400.00 MB"
        (shape("huggyllama/llama-13b"), 512, "f16", "f16", "400.00"),
    ],
)
def test_llama_cpp(spec: ModelSpec, n_ctx: int, k: str, v: str, printed: str) -> None:
    [pool] = llama_cpp.pools(spec, llama_cpp.Settings(n_ctx, type_k=k, type_v=v))
    assert llama_cpp.mib(pool.total_bytes) == printed


def test_a_latent_of_two_sequences() -> None:
    # Ling-3.0-tiny: "54.00 MiB (4096 cells, 6 layers, 2/2 seqs), K (f16): 54.00 MiB, V (f16): 0.00 MiB"
    spec = ModelSpec("6 latents", (latent_layer(16, 512, 64, 128, 128),) * 6)
    [pool] = llama_cpp.pools(spec, llama_cpp.Settings(8192, n_seq_max=2))
    assert (pool.cells, llama_cpp.mib(pool.k_bytes), pool.v_bytes) == (4096, "54.00", 0)


@pytest.mark.parametrize(("n_seq", "cells", "printed"), [(3, 1536, "27.00"), (4, 1024, "18.00")])
def test_cells_are_padded_for_each_sequence(n_seq: int, cells: int, printed: str) -> None:
    # unsloth #7530, Gemma 3 270M at 1,024: "with 3 slots allocates 1536 cells / 27.0 MiB, but 4 slots 1024 / 18.0"
    pools = llama_cpp.pools(GEMMA_3_270M, llama_cpp.Settings(1024, n_seq_max=n_seq))
    assert {pool.cells * pool.streams for pool in pools} == {cells}
    assert llama_cpp.mib(sum(pool.total_bytes for pool in pools)) == printed


@pytest.mark.parametrize(
    ("spec", "dtype", "block", "tokens", "printed"),
    [
        # a Dynamo example of February 2025 with Llama-3.1-8B sizes; a guide to an RTX 5090 with an fp8 cache
        (shape("meta-llama/Llama-3.1-8B"), "bf16", 64, 220480, "26.91"),
        (shape("meta-llama/Llama-3.1-8B"), "fp8", 32, 263008, "16.05"),
        # a Triton lab's notebook: "2.18 GiB (190656)", "7.31 GiB (273792)"
        (shape("Qwen/Qwen2.5-0.5B"), "bf16", 64, 190656, "2.18"),
        (shape("Qwen/Qwen2.5-1.5B"), "bf16", 64, 273792, "7.31"),
        # DGX Spark, 1.1.0rc3: gpt-oss-120b, "kv size is 73728", windows raised to the longest request
        (uniform_spec(36, 64, 8, 64), "bf16", 32, 8224, "0.56"),
        (uniform_spec(36, 64, 8, 64), "bf16", 32, 86720, "5.95"),
    ],
)
def test_tensorrt_llm(spec: ModelSpec, dtype: str, block: int, tokens: int, printed: str) -> None:
    pools = tensorrt_llm.pools(spec, dtype, block_tokens=block)
    [size] = pools.token_bytes.values()
    assert not tokens % block
    assert gib(tokens * size) == printed
    assert pools.blocks(tokens * size) == tokens // block


def test_blocks_of_a_free_memory() -> None:
    # TensorRT-LLM #2268: Qwen1.5-7B, 21.89 GiB available, of which 0.9: 631 blocks of 64 tokens, the last one begun
    pools = tensorrt_llm.pools(shape("Qwen/Qwen1.5-7B"), "fp16", block_tokens=64)
    held = rounded("21.89")
    assert {pools.blocks(m * 9 // 10) + 1 for m in (held.low, held.high)} == {631}


def test_a_pool_of_states_beside_one_of_tokens() -> None:
    # an SGLang banner of September 2026, sizes of Nemotron-Nano-9B-v2: 48 states, conv 0.09 GB, ssm 6.46 GB;
    # 2,618,868 tokens, K and V 19.98 GB
    states = (FixedState(Role.CONVOLUTION, 4 * 12288), FixedState(Role.RECURRENT, 128 * 80 * 128, "fp32"))
    layers = (Layer(Kind.RECURRENT, states),) * 27 + (attention_layer(40, 8, 128),) * 4
    slot = sglang.slots(ModelSpec("nano", layers, "bf16"), sglang.Settings("bf16", conv_kernel=4))
    assert (gib(49 * slot.conv), gib(49 * slot.state)) == ("0.09", "6.46")
    assert (gib(2618869 * slot.k), gib(2618869 * slot.v)) == ("19.98", "19.98")
