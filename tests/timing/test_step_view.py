"""Decode steps of a whole model: the sizes that are timed are the model's own."""

from typing import Any

import pytest

from attention.catalog import published
from attention.memory.footprint import cache_bytes
from attention.spec import uniform_spec
from attention.timing import step_view
from attention.timing.step_cases import StepResult
from tests.published_specs import spec_of
from viz import decode_step


def llama():
    return published.model("meta-llama/Llama-3.1-8B")


def test_rows_count_the_models_own_weights_and_cache():
    row = llama()
    width = step_view.mlp_width(row.config)
    assert width == 14_336
    asked = step_view.steps(row.spec, width, [4096], [3], "bfloat16", "cpu")
    assert [step.variant for step in asked] == ["MHA", "GQA-8", "MQA"]
    mha, own, _ = step_view.rows(asked, [])
    assert own.cache_bytes == cache_bytes(row.spec, 4096, 3, "bf16").state_bytes
    # of the embedding (128,256 · 4,096) one row is read for a token
    assert own.weight_bytes == 2 * (8_030_261_248 - 128_256 * 4096 + 4096)
    # the timed layers are without the output head and the last norm too
    assert own.timed_bytes == 2 * (8_030_261_248 - 2 * 128_256 * 4096 - 4096)
    assert mha.weight_bytes - own.weight_bytes == mha.timed_bytes - own.timed_bytes


def test_a_latent_model_is_counted_as_itself_and_timed_as_ordinary_layers_alone():
    spec = spec_of("deepseek-ai/DeepSeek-V3")
    asked = step_view.steps(spec, 7, [1024], [1], "bfloat16", "cpu")
    assert [step.variant for step in asked] == ["MHA", "MLA", "MQA"]
    mha, own, mqa = asked
    assert own.case is None
    assert spec.parameters is not None
    assert own.weight_bytes == 2 * spec.parameters.read
    assert own.cache_bytes == cache_bytes(spec, 1024, 1, "bf16").state_bytes
    # 61 layers: K of 192 and V of 128 for each of 128 heads from 7,168; MLA goes by a latent of 512 and 64 for RoPE
    expanded = 7168 * 128 * (192 + 128)
    latent = 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    assert mha.weight_bytes - own.weight_bytes == 2 * 61 * (expanded - latent)
    assert mha.weight_bytes - mqa.weight_bytes == 2 * 61 * 7168 * 127 * (192 + 128)
    assert "MLA is not timed" in step_view.timed_apart(spec)


def test_what_of_a_model_the_timed_layer_is_not_is_said():
    assert step_view.timed_apart(llama().spec) == ""
    assert "22 of this model's 26 layers" in step_view.timed_apart(spec_of("google/gemma-3-1b-pt"))


def test_experts_count_as_one_mlp_of_their_joint_width():
    assert step_view.mlp_width({"num_experts_per_tok": 3, "moe_intermediate_size": 7, "intermediate_size": 1000}) == 21
    assert step_view.mlp_width({"num_experts_per_tok": 2, "intermediate_size": 11}) == 22
    shared = {"num_experts_per_tok": 5, "moe_intermediate_size": 7, "n_shared_experts": 2}
    assert step_view.mlp_width(shared) == 49
    assert step_view.mlp_width({"text_config": {"intermediate_size": 13}}) == 13
    assert step_view.mlp_width(None) is None
    assert step_view.mlp_width({"hidden_size": 5}) is None


def test_what_cannot_be_timed_is_said():
    with pytest.raises(ValueError, match="hidden size is not known"):
        step_view.steps(uniform_spec(2, 6, 3, 10), 7, [128], [1], "float32", "cpu")


def test_results_find_their_rows_and_others_do_not():
    row = llama()
    asked = step_view.steps(row.spec, 14_336, [1024, 2048], [1], "bfloat16", "cpu")
    case = asked[4].case
    assert case is not None
    values: dict[str, Any] = {
        "variant": case.variant, "n_layers": case.n_layers, "n_kv_heads": case.n_kv_heads, "context": case.context,
        "batch": 1, "dtype": "bfloat16", "device": "cpu", "layer_s": 0.01, "iqr_s": 0.001, "token_s": 0.32,
        "tokens_per_s": 3.25, "layer_prefill_s": None, "prefill_s": None, "weight_bytes": case.weight_bytes,
        "cache_bytes": case.cache_bytes, "cache_share": 0.1, "floor_s": 0.009, "times_floor": 1.11, "error": 1e-3,
        "note": "",
    }  # fmt: skip
    result = StepResult(**values)
    stale = StepResult(**{**values, "weight_bytes": case.weight_bytes + 1})
    rows = step_view.rows(asked, [stale, result])
    assert [r.result for r in rows] == [None] * 4 + [result, None]
    figure = decode_step.plot_steps(rows)
    weights, cache = figure.data
    assert list(weights.x) == [r.weight_bytes for r in rows]
    assert cache.text[4].startswith("layers 320 ms")
    assert cache.text[0].startswith("cache ")


def test_an_empty_figure_is_titled():
    assert decode_step.plot_steps((), "Nothing").layout.title.text == "Nothing"
