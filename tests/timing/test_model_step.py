"""A model's decode step: the counts by hand, the layer against the specification, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from attention.jobs import model_step as job
from attention.layers import KVCache
from attention.timing import model_step
from attention.timing.model_step import (
    DecoderLayer,
    StepCase,
    run_steps,
    variants,
)
from tests.made_up_host import made_up_host

TINY = StepCase("GQA-2", 3, 22, 34, 6, 2, 10, 17, 2, "float32", "cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with made_up_host(monkeypatch):
        yield


def test_weights_are_counted_as_the_layer_has_them() -> None:
    for case in (TINY, replace(TINY, n_kv_heads=6), replace(TINY, n_kv_heads=1)):
        assert case.n_weights == sum(p.numel() for p in DecoderLayer(case).parameters())
    # Llama 3.1 8B's published sizes: 32 layers of this and 2 · 128,256 · 4,096 + 4,096 make 8,030,261,248
    llama = StepCase("GQA-8", 32, 4096, 14336, 32, 8, 128, 8192)
    assert 32 * llama.n_weights + 2 * 128_256 * 4096 + 4096 == 8_030_261_248
    assert llama.cache_bytes == 8192 * 131_072 // 32


def test_prefill_then_decode_equals_one_pass() -> None:
    layer = DecoderLayer(TINY).double()
    x = torch.randn(2, 17, 22, dtype=torch.float64)
    cache = KVCache(2, 2, 17, 10, torch.float64)
    parts = [layer(part, cache) for part in x.split((11, 1, 5), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x), rtol=0, atol=1e-12)


def test_a_step_is_consistent() -> None:
    (result,) = run_steps([TINY], seconds_per_case=0.01)
    assert result.token_s == pytest.approx(3 * result.layer_s)
    assert result.tokens_per_s == pytest.approx(2 / result.token_s)
    assert result.layer_prefill_s is not None
    assert result.prefill_s == pytest.approx(3 * result.layer_prefill_s)
    assert result.cache_bytes == 2 * 2 * 2 * 17 * 10 * 4
    assert result.weight_bytes == 4 * TINY.n_weights
    assert result.cache_share == pytest.approx(result.cache_bytes / (result.cache_bytes + result.weight_bytes))
    assert result.times_floor == pytest.approx(result.layer_s / result.floor_s)
    assert 0 < result.error < 1e-4
    assert "one layer timed, times 3" in result.note
    json.dumps(result.to_json(), allow_nan=False)


def test_a_long_prefill_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_step, "PREFILL_SECONDS", 1e-9)
    (result,) = run_steps([TINY], seconds_per_case=0.01)
    assert result.prefill_s is None
    assert "prefill not timed: about" in result.note
    assert result.layer_s > 0


def test_ways_to_share_take_turns() -> None:
    cases = [replace(TINY, variant=name, n_kv_heads=n) for name, n in variants(6, 2)]
    results = list(run_steps(cases, seconds_per_case=0.01))
    assert [r.variant for r in results] == ["MHA", "GQA-2", "MQA"]
    assert {r.together for r in results} == {1}
    assert len({len(r.times_s) for r in results}) == 1
    assert all(len(r.prefill_times_s) >= 5 for r in results)
    assert all(r.times_floor >= 1 for r in results)


def test_stop_and_refusals() -> None:
    assert list(run_steps([TINY], should_stop=lambda: True)) == []
    with pytest.raises(ValueError, match=r"MQA at context 16,777,216 and batch 4096 needs .* for one layer"):
        list(run_steps([replace(TINY, variant="MQA", n_kv_heads=1, context=2**24, batch=4096)]))
    changes: tuple[tuple[str, Any, str], ...] = (
        ("n_kv_heads", 4, "n_kv_heads must divide n_heads = 6, got 4"),
        ("head_dim", 7, "head_dim must be even"),
        ("context", 0, "context must be between 1"),
        ("dtype", "int4", "dtype must be one of"),
        ("device", "npu", "device must be one of"),
    )
    for field, value, message in changes:
        with pytest.raises(ValueError, match=message):
            replace(TINY, **{field: value})


def test_variants_of_a_model() -> None:
    assert variants(32, 8) == (("MHA", 32), ("GQA-8", 8), ("MQA", 1))
    assert variants(32, 32) == (("MHA", 32), ("MQA", 1))
    assert variants(32, 1) == (("MHA", 32), ("MQA", 1))
    assert variants(1, 1) == (("MHA", 1),)


def test_the_job() -> None:
    emitted: list[dict[str, Any]] = []
    case = {f: getattr(TINY, f) for f in TINY.__dataclass_fields__}
    summary = job.run({"cases": [case], "seconds_per_case": 0.01}, emitted.append, lambda: False)
    # after its first run, before its prefill is timed, and at the end
    assert [e["variant"] for e in emitted if "variant" in e] == ["GQA-2"] * 3
    assert emitted[-2]["prefill_s"]
    assert summary["calibration"]["name"] == "test"
    nothing: dict[str, Any] = {}
    unknown = {"cases": [{**case, "colour": 1}]}
    for payload in (nothing, {"cases": [nothing]}, unknown, {"cases": [case], "seconds_per_case": 0}):
        with pytest.raises(ValueError):
            job.run(payload, emitted.append, lambda: False)
