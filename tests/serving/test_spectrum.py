"""MHA to MQA of one model: bytes, parameters and floors of each number of K/V heads."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.model_points import model_points
from attention.serving.spectrum import attention_parameters, nearest_published, spectrum
from attention.sharing import family, with_n_kv_heads
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, uniform_spec
from tests.published_specs import spec_of

LLAMA = spec_of("meta-llama/Llama-3.1-8B")
H100 = published.accelerator("h100-sxm")


def test_a_model_whose_layers_share_in_two_ways_stands_at_its_own_place() -> None:
    """As in Baichuan-M1, whose windowed layers have another number of K/V heads than the others."""
    spec = ModelSpec("m", (attention_layer(12, 2, 8), attention_layer(12, 2, 8), attention_layer(12, 4, 8, 5)),
                     "bf16", hidden_size=7)  # fmt: skip
    points = {p.n_kv_heads: p for p in spectrum(spec, H100, Load(100, 3))}
    assert points[2].cache_bytes == 3 * sequence_bytes(spec, 100)
    assert points[2].attention_parameters == 7 * 16 * (3 * 12 + 2 + 2 + 4)
    assert points[4].cache_bytes == 3 * sequence_bytes(with_n_kv_heads(spec, 4), 100)
    assert points[4].attention_parameters == 7 * 16 * 3 * (12 + 4)


def test_every_divisor_has_its_point() -> None:
    points = spectrum(LLAMA, H100, Load(4099, 3))
    assert [p.n_kv_heads for p in points] == [1, 2, 4, 8, 16, 32]
    for p in points:
        assert p.cache_bytes == 32 * 2 * p.n_kv_heads * 128 * 4099 * 2 * 3
        assert p.attention_parameters == 32 * 4096 * 2 * 128 * (32 + p.n_kv_heads)
    assert [p.floor_s for p in points] == sorted(p.floor_s or 0.0 for p in points)


def test_own_number_gives_own_weights() -> None:
    # the published checkpoint's q, k, v and o projections
    assert attention_parameters(LLAMA, 8) == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    assert attention_parameters(uniform_spec(2, 4, 2, 8), 2) is None


def test_a_model_without_attention_is_refused() -> None:
    spec = ModelSpec("mamba", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 17, "fp32"),)),) * 3)
    with pytest.raises(ValueError, match="no attention layer"):
        spectrum(spec, H100, Load(11))
    assert family(spec) == "none"


def test_published_neighbour() -> None:
    assert [nearest_published(32, k) for k in (1, 2, 16, 32)] == ["MQA-XXL", "GQA-8-XXL", "GQA-8-XXL", "MHA-XXL"]


def test_points_of_the_catalogue() -> None:
    found = {p.id: p for p in model_points(8192)}
    llama = found["meta-llama/Llama-3.1-8B"]
    assert (llama.sharing, llama.cache_bytes) == ("GQA", 2**30)
    assert {"MHA", "GQA", "MQA", "MLA"} <= {p.sharing for p in found.values()}
