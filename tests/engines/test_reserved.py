"""What each engine sets aside for a request: by hand, against recorded answers, and the same for every model."""

from __future__ import annotations

import time

import pytest

from attention.catalog import published
from attention.catalog.sources import resolve
from attention.engines import mlx, own_code, tensorrt_llm
from attention.engines.reserved import everywhere, reserved, reserved_bytes
from attention.engines.rules import NAMES, conv_kernel, rule
from attention.memory.footprint import cache_bytes
from attention.memory.load import Load
from attention.oracle import accuracy
from attention.spec import ModelSpec, attention_layer, uniform_spec

GIB = 2**30
TOKEN = 3 * 64 * 2
"""Bytes of a token of `windows` in one layer."""


def windows() -> ModelSpec:
    layers = (attention_layer(6, 3, 32, 128),) * 4 + (attention_layer(6, 3, 32),) * 5
    return ModelSpec("windows", layers, "bf16")


def test_own_code_as_it_was_asked() -> None:
    asked = [c for c in accuracy.load().checks if c.source == "catalogue" and c.allocated_bytes is not None]
    compressed = 0
    for check in asked:
        spec = published.model(check.model).spec
        assert spec is not None
        if "compressed" in str(spec.layers):
            compressed += 1
            continue
        assert own_code.request_bytes(spec, check.context, check.kv_dtype) == check.allocated_bytes, check.model
    assert len(asked) - compressed > 150
    assert compressed < 5


@pytest.mark.parametrize(
    ("model", "tokens", "block", "shown"),
    [
        # lines of TensorRT-LLM: "Allocated 26.91 GiB for max tokens in paged KV cache (220480)", blocks of 64,
        # ai-dynamo examples, February 2025 (Llama-3.1-8B's shape); Qwen2.5 of a Triton server
        ("meta-llama/Llama-3.1-8B", 220480, 64, "26.91"),
        ("Qwen/Qwen2.5-1.5B", 273792, 32, "7.31"),
        ("Qwen/Qwen2.5-0.5B", 190656, 32, "2.18"),
    ],
)
def test_lines_of_tensorrt_llm(model: str, tokens: int, block: int, shown: str) -> None:
    pools = tensorrt_llm.pools(resolve(model), "bf16", block_tokens=block)
    [size] = pools.token_bytes.values()
    assert f"{tokens * size / GIB:.2f}" == shown
    assert tokens % block == 0
    assert pools.blocks(tokens * size) * block == tokens


def test_blocks_of_tensorrt_llm() -> None:
    # windows: positions 872 to 999 of 1,000 lie in blocks 27 to 31
    pools = tensorrt_llm.pools(windows(), "bf16")
    assert pools.request_bytes(1000) == 32 * 32 * 5 * TOKEN + (32 - 27) * 32 * 4 * TOKEN
    with pytest.raises(ValueError, match="several windows"):
        pools.blocks(GIB)
    # 3 heads on 2 ranks would be rounded up; 5 heads are copied to 10 ranks
    [size] = tensorrt_llm.pools(uniform_spec(7, 10, 5, 32, model_dtype="bf16"), "fp8", tp=10).token_bytes.values()
    assert size == 7 * 64


def test_buffers_of_mlx() -> None:
    assert mlx.request_bytes(windows(), 1000, "bf16") == 1024 * 5 * TOKEN + 128 * 4 * TOKEN
    assert mlx.request_bytes(windows(), 100, "bf16") == 256 * 5 * TOKEN + 128 * 4 * TOKEN
    # 64 elements in 4 bits, a scale and a bias of 16: 36 bytes
    assert mlx.request_bytes(uniform_spec(5, 6, 3, 64), 256, "int4-g64") == 256 * 5 * 3 * 2 * 36
    with pytest.raises(ValueError, match="no multiple"):
        mlx.request_bytes(uniform_spec(5, 6, 3, 32), 256, "int4-g64")
    with pytest.raises(ValueError, match="ring"):
        mlx.request_bytes(windows(), 256, "int4-g32")


def test_every_model_of_the_catalogue_with_every_engine() -> None:
    known = dict.fromkeys(NAMES, 0)
    for row in published.models():
        if row.spec is None:
            continue
        for found in everywhere(row.spec, Load(8192, 1, "bf16"), conv_kernel(row.config)):
            assert found.says
            assert all(rule(found.engine, name) for name in found.rules)
            known[found.engine] += found.n_bytes is not None
            assert found.n_bytes is None or found.n_bytes > 0
    assert min(known.values()) > 150
    assert known["transformers"] > 195


def test_a_model_of_equal_full_layers_is_the_same_everywhere() -> None:
    # 8,192 is whole pages, blocks, steps and cells of all of them
    least = cache_bytes(resolve("meta-llama/Llama-3.1-8B"), 8192, 3).state_bytes
    for found in everywhere(resolve("meta-llama/Llama-3.1-8B"), Load(8192, 3, "bf16")):
        assert found.n_bytes == least, found.engine


def test_what_an_engine_does_not_take_is_said() -> None:
    spec = resolve("meta-llama/Llama-3.1-8B")
    for engine in ("vllm", "sglang", "mlx", "transformers", "tensorrt-llm"):
        assert reserved(engine, spec, Load(1, 1, "q8_0")).n_bytes is None
    assert reserved("llama.cpp", spec, Load(1, 1, "q8_0")).n_bytes == 256 * 32 * 2 * 8 * 4 * 34
    assert "no cache type" in reserved("llama.cpp", spec, Load(1, 1, "int4")).says
    too_long = reserved("llama.cpp", spec, Load(2**32, 2, "bf16"))
    assert (too_long.n_bytes, "n_ctx" in too_long.says) == (None, True)


def test_fifty_contexts_of_the_catalogue_in_a_second() -> None:
    rows = [(row.spec, conv_kernel(row.config)) for row in published.models() if row.spec is not None]
    for spec, kernel in rows:
        everywhere(spec, Load(1, 1, "bf16"), kernel)
    begin = time.process_time()
    for context in range(1000, 50_000, 1000):
        load = Load(context, 1, "bf16")
        for spec, kernel in rows:
            for engine in NAMES:
                reserved_bytes(engine, spec, load, kernel)
    # takes about 0.2 s: only another order of growth exceeds this bound
    assert time.process_time() - begin < 2
