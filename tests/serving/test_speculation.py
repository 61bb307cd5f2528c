"""A draft's cache and a step that checks several tokens, counted by hand."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.catalog.sources import resolve
from attention.memory.footprint import cache_bytes
from attention.memory.load import Load
from attention.serving.fit import Setup
from attention.serving.plan import plan
from attention.serving.roofline_points import step_points
from attention.serving.speculation import draft_layer, speculation, stated_layers, with_draft
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role, attention_layer

H100 = published.accelerator("h100-sxm")


def test_layers_as_configurations_state_them() -> None:
    assert stated_layers({"num_nextn_predict_layers": 1}) == 1
    assert stated_layers({"text_config": {"mtp_num_hidden_layers": 2}}) == 2
    assert stated_layers({"num_nextn_predict_layers": 0}) is stated_layers(None) is stated_layers({}) is None
    assert (
        stated_layers({"num_nextn_predict_layers": True}) is stated_layers({"num_nextn_predict_layers": 10**9}) is None
    )


def test_a_draft_is_as_wide_as_the_layer_that_holds_every_token() -> None:
    gemma = resolve("google/gemma-3-27b-pt")
    one = with_draft(gemma, 1)
    assert one.n_layers == 63
    extra = cache_bytes(one, 8192, 3, "bf16").state_bytes - cache_bytes(gemma, 8192, 3, "bf16").state_bytes
    assert extra == 3 * 8192 * 2 * 16 * 128 * 2
    # DeepSeek-V3's is one more latent
    latent = with_draft(resolve("deepseek-ai/DeepSeek-V3"), 1)
    assert cache_bytes(latent, 100, 1, "bf16").state_bytes == 62 * 576 * 2 * 100
    assert with_draft(gemma, 0) is gemma
    windowed = ModelSpec("windows", (attention_layer(6, 3, 32, 128),) * 2, "bf16")
    assert draft_layer(windowed) is windowed.layers[0]
    alone = ModelSpec("states", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7),)),), "bf16")
    with pytest.raises(ValueError, match="no attention layer"):
        with_draft(alone, 1)
    with pytest.raises(ValueError, match="draft layers must be between"):
        with_draft(gemma, 65)


def test_a_step_that_checks_several_tokens_moves_the_same_bytes() -> None:
    spec, load = resolve("meta-llama/Llama-3.1-8B"), Load(8192, 4, "bf16")
    bound = plan(with_draft(spec, 1), Setup(H100), load.context, load.batch).floor
    peak = H100.flops_per_s["bf16"]
    found = speculation(spec, load, bound, 3, None, H100.bytes_per_s, peak)
    assert (found.q_len, found.layers, found.stated) == (4, 1, False)
    assert found.cache_bytes == 4 * 8192 * 2 * 8 * 128 * 2
    assert found.step.moved_bytes == bound.floor.moved_bytes
    assert found.step.intensity == pytest.approx(4 * bound.floor.intensity)
    assert found.most == pytest.approx(4 * bound.tokens_per_s), "memory binds both"
    with pytest.raises(ValueError, match="draft tokens must be between"):
        speculation(spec, load, bound, 17, None, H100.bytes_per_s, peak)


def test_points_move_right_by_the_tokens_checked() -> None:
    spec, load = resolve("meta-llama/Llama-3.1-8B"), Load(8192, 4, "bf16")
    one, five = (step_points(spec, H100, load, "bf16", q_len) for q_len in (1, 5))
    assert [point.intensity for point in five] == pytest.approx([5 * point.intensity for point in one])
    assert step_points(spec, H100, load, "bf16") == one
