"""The floor of prefill: by hand, against sums token by token, and beside the decode of the same tokens."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.floor import COMPUTE, MEMORY
from attention.serving import prefill
from attention.serving.roofline import decode_floor, step_flops
from attention.spec import PositionState, Role, uniform_spec
from tests.published_specs import spec_of

H100 = published.accelerator("h100-sxm")
TINY = uniform_spec(3, 10, 5, 7, name="tiny").with_parameters(1_000_003)


@pytest.mark.parametrize("window", [None, 1, 4, 11, 50])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_the_sum_over_a_prompt_is_the_sum_token_by_token(window: int | None, stride: int) -> None:
    state = PositionState(Role.KEY_VALUE, 2, 3, 3, window, stride)
    for prompt in (1, 2, 10, 11, 12, 47):
        assert prefill.seen_positions(state, prompt) == sum(state.positions(t) for t in range(1, prompt + 1))


def test_by_hand() -> None:
    # 13 tokens see 1 + … + 13 = 91 positions; 3 layers, 10 heads, 4 · 7 operations each
    assert prefill.attention_flops(TINY, 13) == 91 * 3 * 10 * 4 * 7
    found = prefill.prefill_floor(TINY, H100, 13)
    assert found.weight_flops == 2 * 1_000_003 * 13
    assert found.floor.moved_bytes == 2 * 1_000_003 + 13 * 3 * 2 * 5 * 7 * 2
    assert found.floor.binds == MEMORY
    assert found.tokens_per_s == pytest.approx(13 / found.floor.time_s)


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "google/gemma-3-27b-pt"])
def test_a_prompt_takes_the_attention_of_its_tokens_one_by_one(model: str) -> None:
    spec = spec_of(model)
    assert prefill.attention_flops(spec, 1500) == sum(step_flops(spec, t) for t in range(1, 1501))


def test_a_long_prompt_is_bound_by_arithmetic_and_decoding_it_is_not() -> None:
    spec = spec_of("meta-llama/Llama-3.1-8B")
    row = published.model("meta-llama/Llama-3.1-8B")
    found = prefill.prefill_floor(spec, H100, 8192, vocabulary=prefill.vocabulary_of(row.config))
    assert found.floor.binds == COMPUTE
    assert decode_floor(spec, H100, 8192).floor.binds == MEMORY
    # 128,256 rows of 4,096 are multiplied once, the other weights for each token
    head = 128_256 * 4096
    assert found.weight_flops == 2 * ((7_504_928_768 - 4096 - head) * 8192 + head)
    assert found.floor.time_s == pytest.approx((found.weight_flops + found.attention_flops) / H100.flops_per_s["bf16"])
    assert prefill.prefill_floor(spec, H100, 8192, count=2).floor.time_s < found.floor.time_s


def test_a_latent_layer_unfolds_its_vectors() -> None:
    spec = spec_of("deepseek-ai/DeepSeek-V3")
    # 61 layers, 128 heads, keys of 128 + 64 and values of 128
    assert prefill.attention_flops(spec, 2) == 3 * 61 * 128 * 2 * (192 + 128)
    assert prefill.attention_flops(spec, 1500) < sum(step_flops(spec, t) for t in range(1, 1501))


def test_what_cannot_be_bounded_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder"):
        prefill.prefill_floor(spec_of("google-t5/t5-small"), H100, 8)
    with pytest.raises(ValueError, match="n_parameters of"):
        prefill.prefill_floor(uniform_spec(3, 10, 5, 7), H100, 8)
    with pytest.raises(ValueError, match="context must be between"):
        prefill.prefill_floor(TINY, H100, 0)
    assert prefill.vocabulary_of({"vocab_size": "7"}) == prefill.vocabulary_of(None) == 0
    assert prefill.vocabulary_of({"text_config": {"vocab_size": 7}}) == 7
