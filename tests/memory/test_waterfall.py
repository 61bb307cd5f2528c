"""Each idea's saving, worked by hand; for every model of the catalogue the last step is the model's own cache."""

import pytest

from attention.catalog import published
from attention.memory.footprint import cache_of
from attention.memory.load import Load
from attention.memory.waterfall import Step, waterfall
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, latent_layer
from tests.published_specs import spec_of

LONG = 131_072
GIB = 2**30


def test_why_gemma_3_is_small_at_128k():
    found = waterfall(spec_of("google/gemma-3-27b-pt"), Load(LONG, 1, "fp8"))
    # 62 layers, 32 query heads and 16 K/V heads of 128; every sixth layer is full, the others keep 1,024 tokens
    token = 2 * 128 * 2
    assert found == (
        Step("as MHA, all tokens", 62 * 32 * token * LONG),
        Step("heads shared: GQA-16", 62 * 16 * token * LONG),
        Step("windows", (10 * LONG + 52 * 1024) * 16 * token),
        Step("stored as fp8", (10 * LONG + 52 * 1024) * 16 * token // 2),
    )
    assert [round(step.state_bytes / GIB, 1) for step in found] == [124.0, 62.0, 10.4, 5.2]


def test_a_latent_vector_and_shared_layers():
    layers = (latent_layer(16, 512, 64, 128, 128),) * 3
    assert waterfall(ModelSpec("m", layers), Load(11, 7)) == (
        Step("as MHA, all tokens", 7 * 3 * 16 * (192 + 128) * 2 * 11),
        Step("a latent vector", 7 * 3 * 576 * 2 * 11),
    )
    own = attention_layer(15, 5, 7, 3)
    reads = Layer(Kind.SHARED, (), 15, 7, 7, shares=0)
    assert waterfall(ModelSpec("m", (own, reads)), Load(11)) == (
        Step("as MHA, all tokens", 2 * 15 * 14 * 2 * 11),
        Step("heads shared: GQA-5", 2 * 5 * 14 * 2 * 11),
        Step("windows", 2 * 5 * 14 * 2 * 3),
        Step("layers shared", 5 * 14 * 2 * 3),
    )


def test_an_idea_that_changes_nothing_is_left_out():
    assert [s.name for s in waterfall(spec_of("meta-llama/Llama-2-7b-hf"), Load(4096))] == ["as MHA, all tokens"]
    # a context within the window
    assert "windows" not in {s.name for s in waterfall(spec_of("google/gemma-3-27b-pt"), Load(512))}
    recurrent = ModelSpec("r", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7, "fp32"),)),))
    assert waterfall(recurrent, Load(11)) == ()


@pytest.mark.parametrize("load", [Load(LONG), Load(1009, 3, "int4-g64")], ids=str)
def test_the_last_step_is_the_model_and_no_idea_costs_anything(load):
    looked_at = 0
    for row in published.models():
        if row.spec is None:
            continue
        try:
            own = cache_of(row.spec, load).state_bytes
        except ValueError:
            continue  # states of unknown dtype, refused everywhere alike
        if not (steps := waterfall(row.spec, load)):
            continue
        looked_at += 1
        assert steps[-1].state_bytes == own, row.id
        sizes = [step.state_bytes for step in steps]
        assert sizes == sorted(sizes, reverse=True), (row.id, steps)
    assert looked_at > 100
