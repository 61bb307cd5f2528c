"""llama.cpp's MiB, to the digit printed; sources beside them. "Asked" is llama.cpp of October 2026, asked on a CPU."""

from __future__ import annotations

from typing import Any

import pytest

from attention.catalog.sources import resolve
from attention.engines.llama_cpp import TYPES, Settings, mib, pools
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, uniform_spec

SMALL_24B = uniform_spec(40, 32, 8, 128)
QWEN3_8B = uniform_spec(36, 32, 8, 128)
SMOL_135M = uniform_spec(30, 9, 3, 64)


def total(spec: ModelSpec, n_ctx: int, k: str = "f16", v: str | None = None) -> str:
    [pool] = pools(spec, Settings(n_ctx, type_k=k, type_v=v or k))
    return mib(pool.total_bytes)


@pytest.mark.parametrize(
    ("spec", "n_ctx", "k", "v", "shown"),
    [
        # llama.cpp #21551
        (SMALL_24B, 6656, "f16", "f16", "1040.00"),
        (SMALL_24B, 6656, "q8_0", "q8_0", "552.50"),
        (SMALL_24B, 6656, "q4_0", "q4_0", "292.50"),
        (QWEN3_8B, 2560, "f16", "f16", "360.00"),
        (QWEN3_8B, 2560, "q8_0", "q8_0", "191.25"),
        (QWEN3_8B, 2560, "q4_0", "q4_0", "101.25"),
        # asked: 8,000 tokens in 8,192 cells
        (SMOL_135M, 8000, "f16", "f16", "180.00"),
        (SMOL_135M, 8000, "q8_0", "q8_0", "95.62"),
        (SMOL_135M, 8000, "q8_0", "q4_0", "73.12"),
        (uniform_spec(32, 32, 8, 128), 32768, "f16", "f16", "4096.00"),
        # llama-cpp-python #66: LLaMA-30B, whose "MB" are 2^20
        (uniform_spec(60, 52, 52, 128), 512, "f32", "f32", "1560.00"),
    ],
)
def test_lines_as_printed(spec: ModelSpec, n_ctx: int, k: str, v: str, shown: str) -> None:
    assert total(spec, n_ctx, k, v) == shown


def test_the_catalogue_gives_the_same() -> None:
    assert total(resolve("mistralai/Mistral-Small-24B-Base-2501"), 6656, "q8_0") == "552.50"
    assert total(resolve("huggyllama/llama-30b"), 512, "f32") == "1560.00"


def test_a_latent_is_kept_once() -> None:
    # llama.cpp #11446, ik_llama.cpp #259: DeepSeek-R1, 32k
    spec = resolve("deepseek-ai/DeepSeek-R1")
    assert total(spec, 32768) == "2196.00"
    assert total(spec, 32768, "q8_0") == "1166.62"
    [pool] = pools(spec, Settings(32768, latent_v=True))
    assert (mib(pool.k_bytes), mib(pool.v_bytes)) == ("2196.00", "1952.00")


def test_windows_as_asked() -> None:
    full, window = pools(resolve("google/gemma-3-27b-pt"), Settings(32768))
    assert (full.n_layers, full.cells, mib(full.total_bytes)) == (10, 32768, "2560.00")
    assert (window.n_layers, window.cells, mib(window.total_bytes)) == (52, 1536, "624.00")


def test_windows_with_several_sequences() -> None:
    # llama-kv-cache-iswa.cpp: n_swa for every sequence of a unified pool; never more than the other layers hold
    def cells(**settings: Any) -> list[tuple[int, int]]:
        return [(p.cells, p.streams) for p in pools(resolve("google/gemma-3-27b-pt"), Settings(**settings))]

    assert cells(n_ctx=32768, n_seq_max=4) == [(8192, 4), (1536, 4)]
    assert cells(n_ctx=32768, n_seq_max=4, unified=True) == [(32768, 1), (4608, 1)]
    assert cells(n_ctx=1000) == [(1024, 1), (1024, 1)]
    assert cells(n_ctx=8192, swa_full=True) == [(8192, 1), (8192, 1)]
    assert cells(n_ctx=8192, n_ubatch=300) == [(8192, 1), (1536, 1)]


def test_recurrent_states_are_fp32_and_leave_out_the_newest_column() -> None:
    # genie-claw #410, Falcon-H1-1.5B: 24 layers, KV 768.00 MiB at 32,768, R 0.98 and S 72.00
    states = (FixedState(Role.CONVOLUTION, 4 * 3584), FixedState(Role.RECURRENT, 48 * 64 * 256))
    attention = attention_layer(8, 2, 128)
    layer = Layer(Kind.FULL, (*attention.states, *states), 8, 128, 128)
    spec = ModelSpec("falcon-h1", (layer,) * 24, "bf16")
    kv, recurrent = pools(spec, Settings(32768, conv_kernel=4))
    assert mib(kv.total_bytes) == "768.00"
    assert (mib(recurrent.k_bytes), mib(recurrent.v_bytes)) == ("0.98", "72.00")
    # and Mamba-1.4B of the same report: 48 layers of 4,096 channels, kernel 4, state 16
    states = (FixedState(Role.CONVOLUTION, 4 * 4096), FixedState(Role.RECURRENT, 16 * 4096))
    [pool] = pools(ModelSpec("mamba", (Layer(Kind.RECURRENT, states),) * 48), Settings(1, conv_kernel=4))
    assert mib(pool.total_bytes) == "14.25"


@pytest.mark.parametrize(
    ("name", "block_bytes"),
    [("f32", 128), ("f16", 64), ("bf16", 64), ("q8_0", 34), ("q5_1", 24), ("q5_0", 22), ("q4_1", 20), ("q4_0", 18),
     ("iq4_nl", 18)],
)  # fmt: skip
def test_bytes_of_32_elements(name: str, block_bytes: int) -> None:
    # ggml-common.h, static_assert of each block
    assert TYPES[name].row_bytes(32) == block_bytes
    assert TYPES[name].row_bytes(7 * 32) == 7 * block_bytes


def test_what_has_no_rule_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="head of 16 elements is not whole blocks"):
        pools(uniform_spec(2, 3, 3, 16), Settings(256, type_k="q8_0"))
    with pytest.raises(ValueError, match=r"how llama\.cpp lays out"):
        pools(resolve("deepseek-ai/DeepSeek-V3.2"), Settings(256))
    two = ModelSpec(
        "two windows", (attention_layer(6, 3, 32, 128), attention_layer(6, 3, 32, 256), attention_layer(6, 3, 32))
    )
    with pytest.raises(ValueError, match="windows of several sizes"):
        pools(two, Settings(256))
    with pytest.raises(ValueError, match="has no other layers"):
        pools(uniform_spec(2, 6, 3, 32, 128), Settings(256))
    with pytest.raises(ValueError, match="type_v must be one of"):
        Settings(256, type_v="turbo3")
