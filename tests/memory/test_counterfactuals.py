"""The three ways to share: bytes by hand, cases that fit, and the fastest result of each."""

from dataclasses import asdict

import pytest

from attention.catalog import published
from attention.kernels.case import Case, Result
from attention.memory.counterfactuals import (
    MAX_TIMED_BYTES,
    TIMED,
    Way,
    own_name,
    timed_cases,
    times,
    ways,
)
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, latent_layer, uniform_spec


def test_llama_31_8b():
    spec = published.model("meta-llama/Llama-3.1-8B").spec
    token = 32 * 2 * 128 * 2
    assert ways(spec, 8192, 3) == (
        Way("MHA", 32, 3 * 8192 * 32 * token, False),
        Way("GQA-8", 8, 3 * 8192 * 8 * token, True),
        Way("MQA", 1, 3 * 8192 * 1 * token, False),
    )


@pytest.mark.parametrize(("n_kv", "labels"), [(15, ["MHA", "MQA"]), (1, ["MHA", "MQA"]), (3, ["MHA", "GQA-3", "MQA"])])
def test_the_model_stands_once(n_kv, labels):
    found = ways(uniform_spec(2, 15, n_kv, 7), 11)
    assert [w.label for w in found] == labels
    assert [w.n_kv_heads for w in found if w.is_model] == [n_kv]


def test_latent_and_recurrent():
    found = ways(ModelSpec("m", (latent_layer(16, 512, 64, 128, 128),)), 1)
    assert [(w.label, w.state_bytes) for w in found] == [("MHA", 16 * 320 * 2), ("MLA", 576 * 2), ("MQA", 320 * 2)]
    none = ModelSpec("r", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7, "fp32"),)),))
    assert ways(none, 11) == (Way("State", 0, 28, True),)
    with pytest.raises(ValueError, match="no attention heads"):
        timed_cases(none.layers[0], 11)


def test_cases_fit_and_differ_only_in_sharing():
    cases = timed_cases(attention_layer(32, 8, 128), 131_072)
    assert [c.n_kv_heads for c in cases] == [n for n in (32, 8, 1) for _ in TIMED]
    assert {c.context for c in cases} == {8192}
    assert cases[0].cache_bytes == MAX_TIMED_BYTES
    assert {c.context for c in timed_cases(attention_layer(15, 5, 7), 1000)} == {512}
    assert [c.n_kv_heads for c in timed_cases(latent_layer(16, 512, 64, 128, 128), 64)] == [16] * 4 + [1] * 4


def test_every_model_can_be_timed():
    for row in published.models():
        layer = row.spec.attention_layer if row.spec else None
        if layer is not None:
            assert max(c.cache_bytes for c in timed_cases(layer, 2**17)) <= MAX_TIMED_BYTES, row.id


def _result(case: Case, median_s: float | None) -> Result:
    shape = {k: v for k, v in asdict(case).items() if k != "phase"}
    return Result(
        **shape, median_s=median_s, iqr_s=0.1, cache_bytes=1, bytes_per_s=1, error=0, floor_s=1, times_floor=1
    )


def test_fastest_of_each():
    cases = timed_cases(attention_layer(15, 5, 7), 64)
    other = Case("folded_sdpa", 15, 5, 7, 128)
    results = [_result(cases[0], 3.0), _result(cases[1], 2.0), _result(cases[2], None), _result(cases[5], 0.5)]
    found = times(cases, [*results, _result(other, 0.001)], own=5)
    assert [(t.label, t.result and (t.result.median_s, t.result.implementation), t.is_model) for t in found] == [
        ("MHA", (2.0, TIMED[1]), False),
        ("GQA-5", (0.5, TIMED[1]), True),
        ("MQA", None, False),
    ]
    assert own_name(attention_layer(15, 5, 7)) == "GQA-5"
