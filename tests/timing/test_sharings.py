"""One layer timed as MHA, as it is and as MQA: the cases that fit, and the fastest result of each."""

import pytest

from attention.catalog import published
from attention.kernels.case import Case, Result
from attention.spec import FixedState, Kind, Layer, Role, attention_layer, latent_layer
from attention.timing.sharings import MAX_TIMED_BYTES, TIMED, timed_cases, times


def test_a_layer_without_heads_is_refused():
    with pytest.raises(ValueError, match="no attention heads"):
        timed_cases(Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7, "fp32"),)), 11)


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
    return Result(case, median_s, iqr_s=0.1, bytes_per_s=1, error=0, floor_s=1, times_floor=1)


def test_fastest_of_each():
    cases = timed_cases(attention_layer(15, 5, 7), 64)
    other = Case("folded_sdpa", 15, 5, 7, 128)
    results = [_result(cases[0], 3.0), _result(cases[1], 2.0), _result(cases[2], None), _result(cases[5], 0.5)]
    found = times(cases, [*results, _result(other, 0.001)], own=5)
    assert [(t.label, t.result and (t.result.median_s, t.result.case.implementation), t.is_model) for t in found] == [
        ("MHA", (2.0, TIMED[1]), False),
        ("GQA-5", (0.5, TIMED[1]), True),
        ("MQA", None, False),
    ]
