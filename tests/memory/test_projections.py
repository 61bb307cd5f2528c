"""Shapes against Llama 3.1 8B's published weights and against sums made by hand."""

import pytest

from attention.memory.projections import Projections, projections
from attention.spec import Kind, Layer, attention_layer, latent_layer


def four(layer: Layer, hidden_size: int | None, n_kv_heads: int | None = None) -> Projections:
    found = projections(layer, hidden_size, n_kv_heads)
    assert found is not None
    return found


def test_llama_31_8b():
    p = four(attention_layer(32, 8, 128), 4096)
    # model.layers.0.self_attn.{q,k,v,o}_proj.weight of the published checkpoint
    assert [(m.rows, m.columns) for m in p.matrices] == [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)]
    assert p.n_parameters == 41_943_040
    assert p.saved == 2 * 3072 * 4096
    assert not p.assumed


def test_counterfactual_and_value_size():
    layer = attention_layer(15, 5, 7, v_head_dim=11)
    p = four(layer, 13, n_kv_heads=3)
    assert [m.n_parameters for m in p.matrices] == [15 * 7 * 13, 3 * 7 * 13, 3 * 11 * 13, 15 * 11 * 13]
    assert p.saved == 12 * (7 + 11) * 13
    assert four(layer, 13, n_kv_heads=15).saved == 0


def test_hidden_size_assumed():
    p = four(attention_layer(6, 2, 5), None)
    assert p.assumed
    assert p.hidden_size == 30


def test_shared_layer_has_no_key_and_value_projections():
    p = four(Layer(Kind.SHARED, (), 6, 5, 5, shares=0), 17)
    assert [m.name for m in p.matrices] == ["W_Q", "W_O"]
    assert p.saved == 2 * 6 * 5 * 17


def test_layers_that_project_otherwise():
    assert projections(latent_layer(16, 512, 64, 128, 128), 2048) is None
    assert projections(Layer(Kind.NONE), 64) is None
    # asked for as ordinary attention, a latent layer has its expanded heads
    assert four(latent_layer(16, 512, 64, 128, 128), 2048, n_kv_heads=4).matrices[1].rows == 4 * 192


def test_indivisible():
    with pytest.raises(ValueError, match="n_kv_heads must divide n_heads = 6, got 4"):
        projections(attention_layer(6, 2, 5), 30, n_kv_heads=4)
