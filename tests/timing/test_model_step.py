"""A model's decode step: its counts worked by hand, the layer compared with the specification, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from attention.jobs import model_step as job
from attention.kernels import compiler
from attention.layers import KVCache
from attention.timing import decoder_layer, model_step
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


KINDS = {
    "all tokens": StepCase("GQA-3", 5, 44, 34, 6, 3, 16, 37, 2, "float32", "cpu"),
    "a window": StepCase("GQA-2", 5, 44, 34, 6, 2, 16, 37, 1, "float32", "cpu", window=11),
    "experts": StepCase(
        "MQA", 5, 44, 14, 6, 1, 16, 13, 3, "float32", "cpu", False, experts=5, n_chosen=2, expert_width=26
    ),
    "a latent": StepCase(
        "MLA", 5, 44, 34, 6, 1, 22, 17, 2, "float32", "cpu", latent=30, rope_dim=10, q_rank=20, v_head_dim=14
    ),
}


@pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_the_fastest_layer_computes_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_layer, "products_are_quicker", lambda linears, case: True)
    case = KINDS[kind]
    with torch.inference_mode():
        layer = model_step.random_layer(case, "cpu")
        assert case.n_weights == sum(p.numel() for p in layer.parameters())
        quick, taken = decoder_layer.fastest(layer, case)
        assert ("native attention" in taken) == (kind != "a latent")
        assert "native matrix-vector products" in taken
        x, outs = torch.randn(case.batch, 1, case.hidden_size), []
        for one in (layer, quick):
            cache = model_step.layer_cache(case, "cpu")
            torch.manual_seed(7)
            cache.k.normal_()
            if not case.latent:
                cache.v.normal_()
            cache.length = case.held - 1
            outs.append(one(x, cache))
            assert cache.length == case.held
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-4)


def test_experts_are_met_equally_often() -> None:
    chosen = decoder_layer.Experts(KINDS["experts"]).chosen
    assert sorted(s for sequences in chosen for s in sequences) == [0, 0, 1, 1, 2, 2]
    assert max(map(len, chosen)) - min(map(len, chosen)) <= 1


def test_absorbed_attention_is_that_of_the_expanded_heads() -> None:
    """Keys and values that are expanded for each head from the latent vectors give the same result."""
    case = KINDS["a latent"]
    layer = decoder_layer.LatentAttention(case).double()
    with torch.inference_mode():
        for parameter in layer.parameters():
            parameter.normal_()
        x, cache = torch.randn(2, 17, 44, dtype=torch.float64), model_step.layer_cache(case, "cpu")
        cache.k = torch.zeros(2, 1, 17, 40, dtype=torch.float64)
        out = torch.cat([layer(token, cache) for token in x.split(1, dim=1)], 1)
        held, latent = cache.k[:, 0], cache.k[:, 0, :, :30]
        k = torch.cat((latent.unsqueeze(1) @ layer.k_up.mT, held[:, None, :, 30:].expand(2, 6, 17, 10)), -1)
        q = decoder_layer.split_heads(layer.q_b(layer.q_a(x)), 6)
        q = torch.cat((q[..., :12], decoder_layer.rotate(q[..., 12:], 0)), -1)
        attended = torch.nn.functional.scaled_dot_product_attention(
            q, k, latent.unsqueeze(1) @ layer.v_up, is_causal=True
        )
        torch.testing.assert_close(out, layer.o_proj(decoder_layer.merge_heads(attended.unsqueeze(1))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_timed(kind: str) -> None:
    (result,) = run_steps([KINDS[kind]], seconds_per_case=0.01)
    case = KINDS[kind]
    assert result.case == case.shape
    held = {"all tokens": 37 * 96, "a window": 11 * 64, "experts": 13 * 32, "a latent": 17 * 40}
    assert result.case.cache_bytes == 4 * case.batch * held[kind]
    assert (result.prefill_s is None) == (kind != "all tokens")
    if result.plain_s is not None:
        assert len(result.plain_times_s) == len(result.times_s)
        assert "with native" in result.note


def test_kinds_that_contradict_themselves_are_refused() -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"intermediate_size": 0}, "intermediate_size must be at least 1"),
        ({"experts": 2, "expert_width": 3}, "n_chosen must be between 1 and experts = 2"),
        ({"latent": 8, "n_kv_heads": 2}, "a latent layer must have n_kv_heads 1"),
        ({"window": 0}, "window must be between 1"),
    )
    for changes, message in wrong:
        with pytest.raises(ValueError, match=message):
            replace(TINY, **changes)


def test_a_step_is_consistent() -> None:
    (result,) = run_steps([TINY], seconds_per_case=0.01)
    assert result.token_s == pytest.approx(3 * result.layer_s)
    assert result.tokens_per_s == pytest.approx(2 / result.token_s)
    assert result.layer_prefill_s is not None
    assert result.prefill_s == pytest.approx(3 * result.layer_prefill_s)
    assert result.case.cache_bytes == 2 * 2 * 2 * 17 * 10 * 4 == 5440
    assert result.case.weight_bytes == 4 * TINY.n_weights
    assert result.case.cache_share == pytest.approx(5440 / (5440 + 4 * TINY.n_weights))
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
    assert [r.case.variant for r in results] == ["MHA", "GQA-2", "MQA"]
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
    # in plain PyTorch before any kernel is compiled, with the fastest kernels, before its prefill is timed, at the end
    rows = [e for e in emitted if "variant" in e]
    assert [row["variant"] for row in rows] == ["GQA-2"] * 4
    assert "as in plain PyTorch" in rows[0]["note"]
    assert emitted[-2]["prefill_s"]
    assert summary["calibration"]["name"] == "test"
    nothing: dict[str, Any] = {}
    unknown = {"cases": [{**case, "colour": 1}]}
    for payload in (nothing, {"cases": [nothing]}, unknown, {"cases": [case], "seconds_per_case": 0}):
        with pytest.raises(ValueError):
            job.run(payload, emitted.append, lambda: False)
