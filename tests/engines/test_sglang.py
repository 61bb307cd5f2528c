"""SGLang's lines, to the digit printed; sources beside them."""

from __future__ import annotations

import pytest

from attention.catalog.sources import resolve
from attention.engines.sglang import Settings, Slots, slots
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role, attention_layer, uniform_spec

GB = 2**30


def shown(rows: int, n_bytes: int) -> str:
    return f"{rows * n_bytes / GB:.2f}"


def test_one_rank_of_four() -> None:
    # vllm #21348: Qwen3-235B-A22B, TP 4: 367,404 tokens, K 8.23 GB, V 8.23 GB
    pool = slots(resolve("Qwen/Qwen3-235B-A22B"), Settings(tp=4))
    assert shown(367404 + 1, pool.k) == shown(367404 + 1, pool.v) == "8.23"


def test_a_pool_of_windowed_layers() -> None:
    # sglang #18039: MiMo-V2-Flash, TP 4, page 64: 39 windowed layers of 8 K/V heads, 192 and 128 wide;
    # K 8.38 GB, V 5.59 GB
    windowed = attention_layer(64, 8, 192, 128, v_head_dim=128)
    spec = ModelSpec(
        "mimo",
        (windowed,) * 39 + (attention_layer(64, 4, 192, v_head_dim=128),) * 9,
        "bf16",
        model_type="mimo_v2_flash",
    )
    pool = slots(spec, Settings(tp=4, page_tokens=64))
    assert (shown(300288 + 64, pool.window_k), shown(300288 + 64, pool.window_v)) == ("8.38", "5.59")
    assert 375360 * 4 // 5 == 300288


def test_layers_that_share_a_cache_have_slots_all_the_same() -> None:
    # a log of gemma-4-E4B-it: SWAKVPool mem usage: 79.94 GB, swa size: 798276, full size: 997846
    pool = slots(resolve("google/gemma-4-E4B"), Settings())
    total = (997846 + 1) * pool.token_bytes + (798276 + 1) * pool.window_bytes
    assert f"{total / GB:.2f}" == "79.94"
    assert 997846 * 4 // 5 == 798276


def test_the_memory_of_two_pools_is_shared_out_by_their_ratio() -> None:
    pool = slots(resolve("openai/gpt-oss-20b"), Settings())
    full, windowed = pool.tokens(20 * GB)
    assert windowed == full * 4 // 5
    used = full * pool.token_bytes + windowed * pool.window_bytes
    assert 0 <= 20 * GB - used < pool.token_bytes + 2 * pool.window_bytes


def test_windows_of_other_models_hold_every_token() -> None:
    pool = slots(resolve("google/gemma-3-27b-pt"), Settings())
    assert (pool.window, pool.token_bytes) == (0, 62 * 2 * 16 * 128 * 2)


def test_sparse_attention_in_fp8_is_a_record() -> None:
    # sglang #11309: DeepSeek-V3.2, 975,424 tokens = 43.67 GB, on every rank
    for tp in (1, 8):
        pool = slots(resolve("deepseek-ai/DeepSeek-V3.2"), Settings("fp8", tp=tp))
        assert shown(975424, pool.token_bytes) == "43.67"
    latent = PositionState(Role.LATENT, 1, 256, 64), PositionState(Role.INDEXER, 1, 128, 0)
    with pytest.raises(ValueError, match="another"):
        slots(ModelSpec("small", (Layer(Kind.LATENT, latent, 6, 96, 64),), "bf16"), Settings("fp8"))


def hybrid() -> Slots:
    states = (FixedState(Role.CONVOLUTION, 4 * 8192), FixedState(Role.RECURRENT, 32 * 128 * 128, "fp32", 32))
    layers = (Layer(Kind.RECURRENT, states),) * 9 + (attention_layer(8, 2, 256),) * 3
    return slots(ModelSpec("delta net", layers, "bf16"), Settings(conv_kernel=4))


def test_states_take_their_share_of_the_memory() -> None:
    pool = hybrid()
    assert (pool.conv, pool.state) == (9 * 3 * 8192 * 2, 9 * 32 * 128 * 128 * 4)
    count = pool.states(10 * GB)
    tokens, _ = pool.tokens(10 * GB)
    # solved for: memory of states ÷ memory of tokens = 0.9
    assert count * pool.sequence_bytes / (tokens * pool.token_bytes) == pytest.approx(0.9, rel=0.01)
    assert count * pool.sequence_bytes + tokens * pool.token_bytes <= 10 * GB


def test_a_request_holds_its_window_from_a_page_on() -> None:
    layers = (attention_layer(6, 3, 32, 128),) * 4 + (attention_layer(6, 3, 32),) * 5
    spec = ModelSpec("windows", layers, "bf16", model_type="gpt_oss")
    one, four = slots(spec, Settings()), slots(spec, Settings(page_tokens=64))
    token = 3 * 64 * 2
    assert one.request_bytes(1000) == 1000 * 5 * token + 128 * 4 * token
    assert one.request_bytes(100) == 100 * 9 * token
    assert four.request_bytes(1000) == 1024 * 5 * token + (1024 - 832) * 4 * token


def test_what_has_no_rule_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="how SGLang lays out"):
        slots(resolve("google/flan-t5-xl"), Settings())
    with pytest.raises(ValueError, match="kv_cache_dtype must be one of"):
        Settings("q8_0")
    with pytest.raises(ValueError, match="kernel of the model's convolution"):
        slots(resolve("Qwen/Qwen3-Next-80B-A3B-Instruct"), Settings())
    with pytest.raises(ValueError, match="cannot deal out"):
        slots(uniform_spec(2, 15, 5, 32), Settings(tp=3))
    two = (attention_layer(6, 3, 32, 128), attention_layer(6, 3, 32, 256), attention_layer(6, 3, 32))
    with pytest.raises(ValueError, match="several sizes"):
        slots(ModelSpec("two windows", two, "bf16", model_type="gpt_oss"), Settings())
