"""Decode steps of a whole model: the sizes that are timed are the model's own."""

import json
from dataclasses import replace
from typing import Any

import pytest

from attention.catalog import published
from attention.memory.footprint import cache_bytes
from attention.spec import uniform_spec
from attention.timing import step_layers, step_view
from attention.timing.step_cases import StepResult, StepShape, summed
from tests.server import ROOT
from viz import decode_step


def row_of(model_id: str) -> Any:
    return published.model(model_id)


def llama() -> Any:
    return row_of("meta-llama/Llama-3.1-8B")


def test_rows_count_the_models_own_weights_and_cache():
    row = llama()
    width = step_layers.width_of(row.spec, row.config)
    assert width == step_layers.Width(14_336)
    asked = step_view.steps(row.spec, width, [4096], [3], "bfloat16", "cpu")
    assert [step.variant for step in asked] == ["MHA", "GQA-8", "MQA"]
    mha, own, _ = step_view.rows(asked, [])
    assert own.cache_bytes == cache_bytes(row.spec, 4096, 3, "bf16").state_bytes
    # of the embedding (128,256 · 4,096) one row is read for a token
    assert own.weight_bytes == 2 * (8_030_261_248 - 128_256 * 4096 + 4096)
    # the timed layers are without the output head and the last norm too
    assert own.timed_bytes == 2 * (8_030_261_248 - 2 * 128_256 * 4096 - 4096)
    assert mha.weight_bytes - own.weight_bytes == mha.timed_bytes - own.timed_bytes


def test_a_latent_model_is_counted_and_timed_as_itself():
    row = row_of("deepseek-ai/DeepSeek-V3")
    spec = row.spec
    assert spec.parameters is not None
    width = step_layers.width_of(spec, row.config)
    asked = step_view.steps(spec, width, [1024], [1], "bfloat16", "cpu")
    assert [step.variant for step in asked] == ["MHA", "MLA", "MQA"]
    mha, own, mqa = asked
    assert own.weight_bytes == 2 * spec.parameters.read
    assert own.cache_bytes == cache_bytes(spec, 1024, 1, "bf16").state_bytes
    # 61 layers: K of 192 and V of 128 for each of 128 heads from 7,168; MLA goes by a latent of 512 and 64 for RoPE
    expanded = 7168 * 128 * (192 + 128)
    latent = 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    assert mha.weight_bytes - own.weight_bytes == 2 * 61 * (expanded - latent)
    assert mha.weight_bytes - mqa.weight_bytes == 2 * 61 * 7168 * 127 * (192 + 128)
    # three layers with an MLP of 18,432, the others with 8 of 256 experts of 2,048 and a shared one
    assert [(c.n_layers, c.intermediate_size, c.experts, c.expert_width) for c in own.cases] == [
        (58, 2048, 8, 2048),
        (3, 18_432, 0, 0),
    ]
    assert sum(c.cache_bytes * c.n_layers for c in own.cases) == own.cache_bytes
    timed = sum(c.weight_bytes * c.n_layers for c in own.cases)
    # without the output head of 129,280 tokens, the last norm and routers; norms of the latents are left out too
    assert 0.99 < (timed + 2 * 129_280 * 7168) / own.weight_bytes < 1
    assert "MLA is timed in absorbed form" in step_layers.timed_apart(spec, width)


def test_windows_are_timed_beside_full_layers():
    row = row_of("google/gemma-3-1b-pt")
    width = step_layers.width_of(row.spec, row.config)
    own = step_view.steps(row.spec, width, [4096], [1], "float32", "cpu")[1]
    # Gemma 3: five layers of 26 in six hold a window of 512
    assert [(c.n_layers, c.held) for c in own.cases] == [(22, 512), (4, 4096)]
    assert sum(c.cache_bytes * c.n_layers for c in own.cases) == own.cache_bytes
    assert not any(c.prefill for c in own.cases)
    assert "Prefill is timed of models alone whose layers all keep every token" in step_layers.timed_apart(
        row.spec, width
    )


def test_what_of_a_model_is_not_timed_is_said():
    assert step_layers.timed_apart(llama().spec, step_layers.Width(14_336)) == ""
    row = row_of("Qwen/Qwen3-Next-80B-A3B-Instruct")
    said = step_layers.timed_apart(row.spec, step_layers.width_of(row.spec, row.config))
    assert "36 of this model's 48 layers are recurrent: they are not timed." in said
    assert "10 of 512 experts a token" in said


def test_every_model_with_attention_has_layers_to_time():
    for row in published.models():
        if row.spec is None or row.spec.attention_layer is None:
            continue
        width = step_layers.width_of(row.spec, row.config)
        asked = step_view.steps(row.spec, width, [1024], [1], "bfloat16", "cpu")
        compressed = row.id.startswith("deepseek-ai/DeepSeek-V4")  # keys and values of several tokens in one
        assert all(bool(step.cases) != compressed for step in asked), row.id


def test_a_width_is_that_of_three_matrices():
    # OPT's MLP has two matrices of 768 x 3072: as heavy as three of 2,048
    row = row_of("facebook/opt-6.7b")
    width = step_layers.width_of(row.spec, row.config)
    assert width.dense == pytest.approx(2 / 3 * 16_384, rel=0.02)
    assert "16,384 is not that of three matrices" in width.said
    assert step_layers.width_of(row.spec, row.config, 7) == step_layers.Width(7)
    # not published: GPT-2's is four times the hidden size, of two matrices; the table of positions counts as well
    row = row_of("openai-community/gpt2-xl")
    assert step_layers.width_of(row.spec, row.config).dense == pytest.approx(8 / 3 * 1600, rel=0.02)


def test_experts_count_as_one_mlp_of_their_joint_width():
    assert (
        step_layers.mlp_width({"num_experts_per_tok": 3, "moe_intermediate_size": 7, "intermediate_size": 1000}) == 21
    )
    assert step_layers.mlp_width({"num_experts_per_tok": 2, "intermediate_size": 11}) == 22
    shared = {"num_experts_per_tok": 5, "moe_intermediate_size": 7, "n_shared_experts": 2}
    assert step_layers.mlp_width(shared) == 49
    assert step_layers.mlp_width({"text_config": {"intermediate_size": 13}}) == 13
    assert step_layers.mlp_width(None) is None
    assert step_layers.mlp_width({"hidden_size": 5}) is None


def test_what_cannot_be_timed_is_said():
    with pytest.raises(ValueError, match="hidden size is not known"):
        step_view.steps(uniform_spec(2, 6, 3, 10), step_layers.Width(7), [128], [1], "float32", "cpu")


def test_results_find_their_rows_and_others_do_not():
    row = llama()
    asked = step_view.steps(row.spec, step_layers.Width(14_336), [1024, 2048], [1], "bfloat16", "cpu")
    (case,) = asked[4].cases
    assert case.prefill
    result = StepResult(case.shape, 0.01, 0.001, None, 0.009, 1e-3, "")
    stale = replace(result, case=replace(case.shape, weight_bytes=case.weight_bytes + 1))
    rows = step_view.rows(asked, [stale, result])
    assert [r.result for r in rows] == [None] * 4 + [result, None]
    figure = decode_step.plot_steps(rows)
    weights, cache = figure.data
    assert list(weights.x) == [r.weight_bytes for r in rows]
    assert cache.text[4].startswith("layers 320 ms")
    assert cache.text[0].startswith("cache ")


def test_an_empty_figure_is_titled():
    assert decode_step.plot_steps((), "Nothing").layout.title.text == "Nothing"


def result(n_layers: int, times: tuple[float, ...], together: int = 1, **more: Any) -> StepResult:
    layer_s = sorted(times)[len(times) // 2]
    return StepResult(
        StepShape("GQA-2", n_layers, 2, 512, 1, "float32", "cpu", 100, 50), layer_s, 0.0, None,
        layer_s / 2, 1e-6, "", times, (), together, **more,
    )  # fmt: skip


def test_kinds_of_layer_add_up_round_by_round():
    parts = [result(3, (1.0, 2.0, 3.0)), result(5, (7.0, 5.0, 9.0), plain_times_s=(8.0, 8.0, 8.0))]
    whole = summed(parts)
    assert whole.case.n_layers == 8
    assert [8 * t for t in whole.times_s] == pytest.approx([3 + 35, 6 + 25, 9 + 45])
    assert whole.token_s == pytest.approx(38)
    assert whole.plain_times_s == ()
    assert whole.unsteady == ""
    assert whole.times_floor == pytest.approx(38 / (3 * 1.0 + 5 * 3.5))
    assert summed(parts[:1]) is parts[0]


def test_recorded_rows_are_read_and_written_as_they_are():
    recorded = json.loads((ROOT / "bench/results/steps-nvidia-h200.json").read_text())
    assert len(recorded) > 3
    for row in recorded:
        written = json.loads(json.dumps(StepResult.from_json(row).to_json()))
        follows = {"token_s", "tokens_per_s", "prefill_s", "cache_share", "times_floor"}
        assert {name: written[name] for name in row if name not in follows} == {
            name: value for name, value in row.items() if name not in follows
        }
        assert (written["prefill_s"] is None) == (row["prefill_s"] is None)
        assert [written[name] or 0 for name in follows] == pytest.approx(
            [row[name] or 0 for name in follows], rel=1e-12
        )


def test_kinds_of_layer_timed_apart_conclude_nothing():
    whole = summed([result(3, (1.0, 2.0, 3.0)), result(5, (7.0, 5.0, 9.0), together=2)])
    assert whole.times_s == ()
    assert whole.token_s == pytest.approx(3 * 2 + 5 * 7)
    assert "not timed in the same rounds" in whole.unsteady
