"""What differs between two models: numbers of the layers, fields of the files, and equal caches in one bar."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.memory import comparison
from attention.memory.comparison import Column, Compared
from attention.memory.differences import Difference, differences
from attention.memory.load import Load
from attention.spec import FixedState
from viz.compare import ranking

LLAMA, GEMMA, DEEPSEEK = "meta-llama/Llama-3.1-8B", "google/gemma-3-27b-pt", "deepseek-ai/DeepSeek-V3"


def rows(*columns: Column) -> tuple[Compared, ...]:
    return comparison.compare(columns, Load(32_768))


def found(left: str, right: str) -> dict[str, Difference]:
    a, b = rows(Column(left), Column(right))
    config = {model: published.model(model).config for model in (left, right)}
    return {row.what: row for row in differences(a, b, config[left], config[right])}


def test_numbers_stand_beside_the_fields_that_state_them() -> None:
    made = found(LLAMA, GEMMA)
    assert made["K/V heads"][2:] == ("8", "16", "num_key_value_heads", "text_config.num_key_value_heads")
    assert made["layers by kind"][2:4] == ("32 full", "10 full + 52 sliding")
    assert (made["window, tokens"].left, made["window, tokens"].right) == ("", "1,024")
    assert "sliding_window" in made["window, tokens"].right_field
    assert not made["head size"].differs
    assert made["for one more token"][2:4] == ("128 KiB", "80.0 KiB")


def test_a_latent_model_has_its_vector_in_place_of_heads() -> None:
    made = found(LLAMA, DEEPSEEK)
    assert made["latent vector"][2:] == ("", "512", "", "kv_lora_rank")
    assert made["its RoPE part"][2:] == ("", "64", "", "qk_rope_head_dim")
    assert made["K/V heads"].right == ""


def test_a_hybrid_model_has_its_fixed_states() -> None:
    made = found(LLAMA, "Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert made["fixed states"].left == ""
    assert made["fixed states"].right_field.endswith("linear_num_value_heads")
    spec = published.model("Qwen/Qwen3-Next-80B-A3B-Instruct").spec
    assert spec is not None
    elements = sum(state.elements for layer in spec.layers for state in layer.states if isinstance(state, FixedState))
    assert made["fixed states"].right == f"{elements:,} elements"
    assert made["layers by kind"].right == "12 full + 36 recurrent"


@pytest.mark.parametrize("model", [row.id for row in published.models() if row.spec is not None][::7])
def test_a_model_does_not_differ_from_itself_and_its_numbers_have_a_source(model: str) -> None:
    for row in found(model, model).values():
        assert not row.differs
        assert row.rule.endswith((".", "…"))


def test_a_format_of_its_own_differs_and_unpublished_sizes_are_refused() -> None:
    plain, small, unpublished = rows(Column(LLAMA), Column(LLAMA, "fp8"), Column("google/Gemini-1.0"))
    same = differences(plain, small)
    assert [row.what for row in same if row.differs] == [
        "cache format", "for one more token", "at 32k tokens, 1 sequence",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no published sizes"):
        differences(plain, unpublished)


def test_equal_caches_share_a_bar_and_the_largest_comes_first() -> None:
    compared = rows(Column(LLAMA), Column(GEMMA), Column("google/Gemini-1.0"), Column("meta-llama/Meta-Llama-3-8B"))
    ranked = comparison.ranked(compared)
    assert [[place for place, _ in row.members] for row in ranked] == [[0, 3], [1]]
    assert [row.value for row in ranked] == [compared[0].state_bytes, compared[1].state_bytes]
    bars = ranking(ranked, "total")
    assert bars[0].part == 1
    assert bars[1].part == ranked[1].value / ranked[0].value
    assert "the smallest" in bars[0].text
    assert comparison.ranked(()) == ranking((), "total") == ()
    with pytest.raises(ValueError, match="view must be one of"):
        comparison.ranked(compared, "size")
