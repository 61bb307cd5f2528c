"""The parts add up to the whole, whatever the model."""

import pytest

from attention import sharing
from attention.formats import FORMATS
from attention.memory import breakdown, footprint
from attention.memory.counterfactuals import variants
from attention.memory.load import Load
from attention.spec import ModelSpec, uniform_spec
from attention.states import FixedState, Kind, Layer, PositionState, Role, attention_layer, latent_layer

FULL = attention_layer(14, 7, 13)
SLIDING = attention_layer(14, 2, 11, window=97)
LATENT = latent_layer(14, 53, 17, 19, 23, index_head_dim=29)
RECURRENT = Layer(
    Kind.RECURRENT,
    (FixedState(Role.CONVOLUTION, 211), FixedState(Role.RECURRENT, 1009, dtype="fp32", n_heads=7)),
)
CROSS = Layer(
    Kind.CROSS,
    (PositionState(Role.KEY_VALUE, 3, 5, 5), PositionState(Role.CROSS, 3, 5, 5)),
    n_heads=3,
)
MIXED = ModelSpec("mixed", (FULL, SLIDING, SLIDING, LATENT, RECURRENT, CROSS), "bf16", n_parameters=10_007)


@pytest.mark.parametrize("kv_dtype", FORMATS)
@pytest.mark.parametrize("context", [1, 83, 1013])
def test_terms_add_up_to_the_cache(kv_dtype: str, context: int) -> None:
    parts = breakdown.terms(MIXED, Load(context, 3, kv_dtype))
    assert sum(t.total_bytes for t in parts) == footprint.cache_bytes(MIXED, context, 3, kv_dtype).state_bytes
    assert {t.role for t in parts} == {
        Role.KEY_VALUE,
        Role.LATENT,
        Role.INDEXER,
        Role.CONVOLUTION,
        Role.RECURRENT,
        Role.CROSS,
    }


def test_a_term_is_the_product_of_its_factors() -> None:
    (term,) = breakdown.terms(uniform_spec(32, 32, 8, 128), Load(8192, 2))
    assert (term.n_layers, term.positions, term.n_kv_heads, term.bits_per_element) == (32, 8192, 8, 16.0)
    # 2 sequences x 32 layers x 8192 tokens x 8 heads x (128 + 128) x 2 bytes
    assert term.total_bytes == 2 * 32 * 8192 * 8 * 256 * 2
    assert (term.elements, term.entry_bytes) == (2048, 4096)


def test_a_window_bounds_its_term_and_the_encoder_has_its_own_length() -> None:
    by_role = {(t.kind, t.role): t for t in breakdown.terms(MIXED, Load(1013), 41)}
    assert by_role[Kind.SLIDING, Role.KEY_VALUE].positions == 97
    assert by_role[Kind.SLIDING, Role.KEY_VALUE].n_layers == 2
    assert by_role[Kind.CROSS, Role.CROSS].positions == 41
    assert by_role[Kind.CROSS, Role.KEY_VALUE].positions == 1013


def test_calibrated_scales_stand_in_the_term() -> None:
    (term,) = breakdown.terms(uniform_spec(5, 14, 7, 13), Load(11, 1, "fp8-head"))
    assert term.scale_bytes == 5 * 2 * 7 * 4
    assert term.total_bytes == 5 * (11 * 7 * 26) + term.scale_bytes


def test_variants_hold_the_model_once_and_shrink_with_sharing() -> None:
    spec = uniform_spec(3, 12, 4, 7)
    rows = variants(spec, footprint.cache_bytes(spec, 101, 2))
    assert [r.label for r in rows if r.is_model] == ["GQA-4"]
    assert rows[0].label == "MHA"
    assert rows[-1].label == "MQA"
    assert rows[0].state_bytes == 3 * rows[[r.label for r in rows].index("GQA-4")].state_bytes
    sizes = [r.state_bytes for r in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_a_latent_model_is_compared_with_the_attention_its_heads_would_need() -> None:
    spec = ModelSpec("mla", (latent_layer(14, 53, 17, 19, 23),) * 3, "bf16")
    rows = {r.label: r for r in variants(spec, footprint.cache_bytes(spec, 101))}
    assert rows["MLA"].is_model
    assert rows["MLA"].state_bytes == 3 * 101 * (53 + 17) * 2
    assert rows["MHA"].state_bytes == 3 * 101 * 14 * (19 + 17 + 23) * 2


def test_a_model_without_attention_has_no_counterfactual() -> None:
    spec = ModelSpec("mamba", (RECURRENT,) * 2, "bf16")
    (row,) = variants(spec, footprint.cache_bytes(spec, 101))
    assert row.is_model
    assert sharing.mha_of(spec) is None
    assert footprint.crossover(spec, 10**9) is None


def test_where_the_cache_outgrows_the_weights() -> None:
    spec = uniform_spec(3, 14, 7, 13)
    per_token = 3 * 7 * 26 * 2
    weights = breakdown.weight_bytes(1009, "bf16")
    assert weights == 2018
    at = footprint.crossover(spec, weights)
    assert at == 2018 // per_token + 1
    assert footprint.sequence_bytes(spec, at) > weights >= footprint.sequence_bytes(spec, at - 1)
    assert footprint.crossover(spec, None) is None
    assert breakdown.weight_bytes(None) is None
