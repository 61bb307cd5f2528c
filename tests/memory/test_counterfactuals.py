"""The three ways to share: bytes by hand."""

import pytest

from attention.memory.counterfactuals import Variant, ends
from attention.memory.load import Load
from attention.sharing import of_layer
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer, latent_layer, uniform_spec
from tests.published_specs import spec_of


def test_llama_31_8b():
    spec = spec_of("meta-llama/Llama-3.1-8B")
    token = 32 * 2 * 128 * 2
    assert ends(spec, Load(8192, 3)) == (
        Variant("MHA", 32, 3 * 8192 * 32 * token, False),
        Variant("GQA-8", 8, 3 * 8192 * 8 * token, True),
        Variant("MQA", 1, 3 * 8192 * 1 * token, False),
    )


@pytest.mark.parametrize(("n_kv", "labels"), [(15, ["MHA", "MQA"]), (1, ["MHA", "MQA"]), (3, ["MHA", "GQA-3", "MQA"])])
def test_the_model_stands_once(n_kv, labels):
    found = ends(uniform_spec(2, 15, n_kv, 7), Load(11))
    assert [w.label for w in found] == labels
    assert [w.n_kv_heads for w in found if w.is_model] == [n_kv]


def test_latent_and_recurrent():
    found = ends(ModelSpec("m", (latent_layer(16, 512, 64, 128, 128),)), Load(1))
    assert [(w.label, w.state_bytes) for w in found] == [("MHA", 16 * 320 * 2), ("MLA", 576 * 2), ("MQA", 320 * 2)]
    none = ModelSpec("r", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7, "fp32"),)),))
    assert ends(none, Load(11)) == (Variant("State", 0, 28, True),)


def test_of_layer():
    assert of_layer(attention_layer(15, 5, 7)) == "GQA-5"


def test_another_number_of_kv_heads_stands_between():
    spec = spec_of("meta-llama/Llama-3.1-8B")
    found = ends(spec, Load(8192), n_kv_heads=4)
    assert [(row.label, row.is_model) for row in found] == [
        ("MHA", False), ("GQA-8", True), ("GQA-4", False), ("MQA", False),
    ]  # fmt: skip
    assert found[2].state_bytes * 2 == found[1].state_bytes
    for n in (32, 8, 1):
        assert ends(spec, Load(8192), n_kv_heads=n) == ends(spec, Load(8192))
    with pytest.raises(ValueError, match="divide"):
        ends(spec, Load(8192), n_kv_heads=3)
