"""The ledger: exact numbers, in their order, for every model."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.catalog.sources import resolve
from attention.engines.ledger import Entry, ledger
from attention.engines.rules import conv_kernel
from attention.memory.footprint import cache_bytes
from attention.memory.load import Load

GIB = 2**30


def entries(name: str, context: int = 131072, memory: int | None = 30 * GIB, batch: int = 1) -> dict[str, Entry]:
    row = published.model(name)
    assert row.spec is not None
    found = ledger(row.spec, Load(context, batch, "bf16"), conv_kernel(row.config), memory)
    return {entry.name: entry for entry in found}


def test_gemma_3_by_hand() -> None:
    # 62 layers of 16 heads of 128: 10 hold all, 52 hold 1,024
    layer = 2 * 16 * 128 * 2
    found = entries("google/gemma-3-27b-pt")
    full, context = 10 * layer * 131072, 131072
    assert found["the states, at least"].n_bytes == full + 52 * layer * 1024
    assert found["the model's own code"].n_bytes == full + 52 * layer * 1023
    assert "1,106,870,272 bytes" in found["the model's own code"].says
    assert found["llama.cpp"].n_bytes == full + 52 * layer * 1536
    assert found["SGLang"].n_bytes == 62 * layer * context
    assert found["MLX"].n_bytes == full + 52 * layer * 1024
    assert found["vLLM"].n_bytes == 11654 * 10 * layer * 16
    assert found["as vLLM prints it"].tokens == 276405
    assert found["as vLLM prints it"].n_bytes == 30 * GIB * context // 276405
    assert found["as TensorRT-LLM prints it"].n_bytes is None


def test_stored_read_and_resident_differ_where_an_indexer_picks() -> None:
    found = entries("deepseek-ai/DeepSeek-V3.2")
    key, latent = 128 * 2, 576 * 2
    assert found["the states, at least"].n_bytes == 61 * 131072 * (key + latent)
    assert found["read by a step"].n_bytes == 61 * (131072 * key + 2048 * latent)
    assert found["resident with HiSparse"].n_bytes == 61 * (131072 * key + 4096 * latent)
    plain = entries("meta-llama/Llama-3.1-8B")
    assert plain["read by a step"].n_bytes == plain["resident"].n_bytes == plain["the states, at least"].n_bytes


def test_a_batch_is_counted_whole() -> None:
    one, three = (entries("meta-llama/Llama-3.1-8B", 8192, batch=batch) for batch in (1, 3))
    for name, entry in one.items():
        assert three[name].n_bytes == 3 * (entry.n_bytes or 0), name


def test_without_memory_nothing_is_printed() -> None:
    assert all(entry.kind != "printed" for entry in entries("openai/gpt-oss-20b", memory=None).values())
    with pytest.raises(ValueError, match="memory must be between"):
        entries("openai/gpt-oss-20b", memory=0)


def test_a_memory_that_holds_no_request() -> None:
    found = entries("meta-llama/Llama-3.1-8B", memory=1000)
    assert {found[f"as {engine} prints it"].n_bytes for engine in ("vLLM", "SGLang", "TensorRT-LLM")} == {None}
    assert "does not start" in found["as vLLM prints it"].says


def test_every_model_has_one() -> None:
    for row in published.models():
        if row.spec is None:
            continue
        found = ledger(row.spec, Load(8192, 1, "bf16"), conv_kernel(row.config), 30 * GIB)
        assert [entry.kind for entry in found][:2] == ["needed", "own code"]
        assert all(entry.says for entry in found)
        assert found[0].n_bytes == cache_bytes(row.spec, 8192).state_bytes


def test_the_ledger_names_what_has_no_rule() -> None:
    found = ledger(resolve("deepseek-ai/DeepSeek-V4-Flash"), Load(8192, 1, "bf16"))
    assert "how vLLM lays out" in next(entry.says for entry in found if entry.name == "vLLM")
    assert "62,428,160 bytes" in next(entry.says for entry in found if entry.kind == "own code")
