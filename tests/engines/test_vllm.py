"""vLLM's figures, to the digit printed; sources beside them. "Asked" is vLLM 0.33's own planner, asked on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attention.catalog.sources import configuration, resolve
from attention.engines.report import gib, rounded
from attention.engines.rules import RULES, conv_kernel
from attention.engines.vllm import Plan, plan
from attention.engines.vllm_layers import Settings
from attention.memory.allocation import allocate
from attention.memory.footprint import cache_bytes
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role, attention_layer, uniform_spec

GIB = 2**30


def planned(name: str, **settings: Any) -> Plan:
    return plan(resolve(name), Settings(**settings))


def printed(pool: Plan, memory: float) -> tuple[int, int, str]:
    """(blocks, tokens, concurrency) as the newer versions print them."""
    blocks = pool.blocks(int(memory * GIB))
    return blocks, pool.tokens(blocks, "tokens by concurrency"), f"{pool.concurrency(blocks):.2f}"


def test_llama_as_asked() -> None:
    assert printed(planned("meta-llama/Llama-3.1-8B", max_model_len=131072), 40) == (20480, 327680, "2.50")


def test_gpt_oss_as_asked() -> None:
    pool = planned("openai/gpt-oss-120b", max_model_len=131072)
    assert [group.n_layers for group in pool.groups] == [18, 18]
    assert printed(pool, 5.38)[:2] == (9793, 147318)


def test_gemma_3_as_asked() -> None:
    pool = planned("google/gemma-3-27b-pt", max_model_len=131072)
    assert sorted(group.n_layers for group in pool.groups) == [8, 8, 9, 9, 9, 9, 10]
    assert printed(pool, 30)[:2] == (24576, 276405)


def test_gemma_4_before_concurrency_was_printed() -> None:
    # hf-mem #61: 24.54 GiB, 26,800 tokens, 983,195 B a token printed and 901,120 kept
    pool = planned("google/gemma-4-31B")
    assert {group.block_tokens for group in pool.groups} == {16, 32}
    assert pool.tokens(pool.blocks(int(24.54 * GIB)), "tokens by groups") == 26800
    assert round(24.54 * GIB / 26800) == 983195
    assert pool.token_bytes == 901120


def test_gpt_oss_at_full_length_within_the_digits_of_its_memory() -> None:
    # hf-mem #60: 5.38 GiB, 78,384 tokens; 5.38 stands for 5.375 to 5.385
    memory, pool = rounded("5.38"), planned("openai/gpt-oss-120b", hybrid_manager=False)
    tokens = [pool.tokens(pool.blocks(m), "tokens by groups") for m in (memory.low, memory.high)]
    assert tokens[0] <= 78384 <= tokens[1]
    assert gib(78384 * pool.token_bytes) == "5.38"
    # the windows alone, in a pool of their own, would be half of it
    assert gib(78384 * 18 * 2048) == "2.69"


def test_one_rank_of_four() -> None:
    # vllm #21348: TP4, 178,880 tokens
    pool = planned("Qwen/Qwen3-235B-A22B", tp=4)
    assert pool.token_bytes == 48128
    assert pool.tokens(178880 // 16, "tokens by groups") == 178880
    # SGLang of the same model: 367,404 tokens, K 8.23 GB and V 8.23 GB, whose GB are 2^30
    assert gib(367404 * pool.token_bytes // 2) == "8.23"


def test_fp8_and_what_a_request_needs() -> None:
    # vllm #25350, Qwen3-30B-A3B sizes: 230,528 tokens in 10.55 GiB, 2.31x; 221,000 need 10.12; 122,080 fit in 5.59
    pool = planned("Qwen/Qwen3-30B-A3B", kv_dtype="fp8", max_model_len=100_000)
    assert gib(230528 * pool.token_bytes) == "10.55"
    assert f"{pool.concurrency(230528 // 16):.2f}" == "2.31"
    assert gib(pool.request_blocks(221000) * pool.block_bytes) == "10.12"
    memory = rounded("5.59")
    assert pool.longest(memory.low) <= 122080 <= pool.longest(memory.high)


def test_records_of_sparse_attention() -> None:
    # sglang #11309: DeepSeek-V3.2, 975,424 tokens = 43.67 GB; every rank keeps all of it
    for tp in (1, 8):
        pool = planned("deepseek-ai/DeepSeek-V3.2", kv_dtype="fp8_ds_mla", tp=tp)
        assert pool.token_bytes == 61 * (656 + 132)
        assert gib(975424 * pool.token_bytes) == "43.67"
    with pytest.raises(ValueError, match="another"):
        planned("meta-llama/Llama-3.1-8B", kv_dtype="fp8_ds_mla")


def test_lines_of_engines_without_a_profile_are_sums_of_states() -> None:
    # TensorRT-LLM #1400; flashinfer #3327: 225,280 B a token on each of four ranks, windows in the shared pool
    assert cache_bytes(resolve("huggyllama/llama-7b"), 132608, 1, "fp16").state_bytes == 69_524_783_104
    one, two = (
        allocate(resolve("google/gemma-4-31B"), n, tp=4, page_tokens=1, window_pool="shared") for n in (9000, 9001)
    )
    assert two.bytes_per_rank - one.bytes_per_rank == 225280
    assert planned("google/gemma-4-31B", tp=4).token_bytes == 225280


@pytest.mark.parametrize(
    ("kv_dtype", "head_bytes"), [("fp8", 2 * 96), ("int8_per_token_head", 2 * 100), ("nvfp4", 2 * 54)]
)
def test_scales_are_counted(kv_dtype: str, head_bytes: int) -> None:
    # vllm #39008: head_dim + 4 bytes; NVFP4: 4 bits and an E4M3 scale for 16
    spec = replace(uniform_spec(5, 21, 7, 96), model_dtype="bf16")
    assert plan(spec, Settings(kv_dtype=kv_dtype)).token_bytes == 5 * 7 * head_bytes


def delta_net(n_attention: int, n_recurrent: int, kernel: int = 4) -> ModelSpec:
    """Layers with the sizes of Qwen3-Next, but one K/V head of 256."""
    states = (FixedState(Role.CONVOLUTION, kernel * 8192), FixedState(Role.RECURRENT, 32 * 128 * 128, "fp32"))
    layers = (Layer(Kind.RECURRENT, states),) * n_recurrent + (attention_layer(8, 1, 256),) * n_attention
    return ModelSpec("delta net", layers, "bf16")


def test_a_block_is_enlarged_to_hold_a_state_as_reported() -> None:
    # vllm #41037: Nemotron 3 Nano, fp8, --block-size 32: 4,192 tokens at TP 1 and 2, 2,112 at TP 4
    name = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    kernel = conv_kernel(configuration(name))
    for tp, block in ((1, 4192), (2, 4192), (4, 2112)):
        pool = planned(name, kv_dtype="fp8", ssm_dtype="fp32", block_tokens=32, tp=tp, conv_kernel=kernel)
        assert {group.block_tokens for group in pool.groups} == {block}
        assert pool.page_bytes == block * 512 // min(2, tp)


@pytest.mark.parametrize(("ssm_dtype", "block"), [("fp32", 1056), (None, 544)])
def test_a_block_is_enlarged_to_hold_a_state_by_hand(ssm_dtype: str | None, block: int) -> None:
    # Qwen3-Next: 3 x 8,192 x 2 bytes and 32 x 128 x 128 of the state, in pages of 2,048 bytes a token
    name = "Qwen/Qwen3-Next-80B-A3B-Instruct"
    pool = planned(name, ssm_dtype=ssm_dtype, conv_kernel=conv_kernel(configuration(name)))
    assert {group.block_tokens for group in pool.groups} == {block}
    assert [group.n_layers for group in pool.groups] == [12, 12, 12, 12]
    assert pool.block_bytes == 12 * block * 2048


def test_a_request_takes_one_page_of_state_whatever_its_length() -> None:
    pool = plan(delta_net(3, 9), Settings(conv_kernel=4, max_model_len=10_007))
    block = pool.groups[0].block_tokens
    assert pool.request_blocks(block) == 4
    assert pool.request_blocks(block + 1) == 5
    assert plan(delta_net(3, 9), Settings(conv_kernel=4, state_pages=2)).request_blocks(block) == 7


def test_windows_hold_what_is_in_flight_and_one_block_more() -> None:
    layers = (attention_layer(6, 3, 32, 128),) * 4 + (attention_layer(6, 3, 32),) * 4
    pool = plan(ModelSpec("windows", layers, "bf16"), Settings(in_flight=2048))
    assert pool.request_blocks(100_000) == 6250 + -(-(127 + 2048) // 16) + 1
    assert pool.request_blocks(160) == 10 + 10 + 1  # no more than the request


def test_padding_of_uneven_groups() -> None:
    # 7 windowed layers beside 3: groups of 3, 3, 3 (two places empty); 5 beside 4: one group of 5 each
    for n, groups in ((7, [3, 2, 2, 3]), (5, [5, 4])):
        layers = (attention_layer(6, 3, 32, 128),) * n + (attention_layer(6, 3, 32),) * (3 if n == 7 else 4)
        pool = plan(ModelSpec("uneven", layers, "bf16"), Settings())
        assert [group.n_layers for group in pool.groups] == groups
        assert pool.block_bytes == max(groups) * 16 * 3 * 64 * 2


def test_what_has_no_rule_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="how vLLM lays out"):
        planned("deepseek-ai/DeepSeek-V4-Flash")
    with pytest.raises(ValueError, match="kernel of the model's convolution is not known"):
        plan(delta_net(3, 9), Settings())
    with pytest.raises(ValueError, match="does not divide"):
        plan(delta_net(3, 9), Settings(conv_kernel=7))
    with pytest.raises(ValueError, match="torch_dtype is not stated"):
        plan(uniform_spec(2, 6, 3, 32), Settings())
    with pytest.raises(ValueError, match="kv_cache_dtype must be one of"):
        Settings(kv_dtype="turboquant_k8v4")
    compressed = Layer(Kind.COMPRESSED, (PositionState(Role.KEY_VALUE, 1, 32, 32, stride=4),), 6, 32, 32)
    with pytest.raises(ValueError, match="compressed"):
        plan(ModelSpec("compressed", (compressed,), "bf16"), Settings())


def test_the_kernel_is_read_where_the_configuration_states_it() -> None:
    assert conv_kernel({"mamba_d_conv": 4}) == conv_kernel({"text_config": {"linear_conv_kernel_dim": 4}}) == 4
    assert conv_kernel({"conv_L_cache": 3}) == 3
    assert conv_kernel({"hidden_size": 7}) is conv_kernel(None) is None


def test_every_rule_has_one_name_a_version_and_a_source() -> None:
    assert len({(rule.engine, rule.name) for rule in RULES}) == len(RULES)
    assert all(rule.says and rule.version and rule.source for rule in RULES)
