"""Broken, hostile and contradictory configurations: a right answer or a ValueError, nothing else, in bounded time."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.configs.reader import load_config, spec_from_config
from attention.memory.footprint import sequence_bytes
from attention.spec import ModelSpec
from tests.long import short

CONFIGS = Path(__file__).parents[1] / "data" / "configs"
# one of each way of reading: ordinary, windows, latent, hybrids, nested, remote code, encoder-decoder
NAMES = (
    *("meta-llama__Meta-Llama-3.1-8B", "openai__gpt-oss-120b", "google__gemma-3-27b-it", "google__gemma-3n-E2B-it"),
    *("google__gemma-4-26B-A4B", "deepseek-ai__DeepSeek-V3", "deepseek-ai__DeepSeek-V4-Flash", "zai-org__GLM-5"),
    *("Qwen__Qwen3-Next-80B-A3B-Instruct", "ai21labs__Jamba-v0.1", "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"),
    *("LiquidAI__LFM2-1.2B", "moonshotai__Kimi-Linear-48B-A3B-Instruct", "MiniMaxAI__MiniMax-Text-01"),
    *("meta-llama__Llama-4-Scout-17B-16E-Instruct", "tiiuae__falcon-40b", "tiiuae__falcon-mamba-7b"),
    *("THUDM__chatglm2-6b", "baichuan-inc__Baichuan-M1-14B-Instruct", "google__flan-t5-xl", "mosaicml__mpt-7b"),
    *("ibm-granite__granite-4.0-h-micro", "bigcode__starcoder", "openai-community__gpt2"),
)
BASES = {name: load_config(CONFIGS / f"{name}.json") for name in NAMES}

# the first reading loads transformers, so it is made before any example; the deadlines only tell a hang from an answer
spec_from_config(BASES[NAMES[0]])

WEIRD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, 5, 7, -1, -128, 2**31, 2**63, 10**12, 10**30]),
    st.integers(-10, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["", "8", "LLLG", "full_attention", "M*-E", "../../etc/passwd", "x" * 1000, "é"]),
    st.sampled_from([[], [None], ["full_attention"] * 3, [0] * 500, ["mamba", "attention"] * 30, [1.5], [[]], [True]]),
    st.sampled_from([{}, {"a": {"b": {}}}, {"model_type": "llama"}, {"kv_n_heads": -1}, {"attention": None}]),
)


def assert_read_or_refused(config: dict[str, Any]) -> ModelSpec | None:
    try:
        spec = spec_from_config(config)
    except ValueError as error:
        text = str(error)
        assert text
        assert len(text) < 1500
        return None
    assert 1 <= spec.n_layers <= 20_000
    for layer in spec.layers:
        if layer.n_kv_heads:
            assert layer.n_heads % layer.n_kv_heads == 0
    low, high = (sequence_bytes(spec, context, "bf16") for context in (100, 10_000))
    assert isinstance(low, int)
    assert 0 <= low <= high
    return spec


def keys_of(config: dict[str, Any]) -> list[tuple[str, ...]]:
    """Paths of the fields, the decoder's and the outer ones."""
    inner = config.get("text_config")
    return [(key,) for key in config] + ([("text_config", key) for key in inner] if isinstance(inner, dict) else [])


def changed(config: dict[str, Any], path: tuple[str, ...], value: Any, remove: bool) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(json.dumps(config))
    where = out
    for key in path[:-1]:
        where = where[key]
        if not isinstance(where, dict):
            return out
    if remove:
        where.pop(path[-1], None)
    else:
        where[path[-1]] = value
    return out


FUZZ = settings(max_examples=short(300, 100))


@FUZZ
@given(st.data())
def test_one_to_three_fields_changed(data: st.DataObject) -> None:
    config = BASES[data.draw(st.sampled_from(NAMES))]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(keys_of(config)))
        config = changed(config, path, data.draw(WEIRD), data.draw(st.booleans()))
        if not isinstance(config.get("text_config", {}), dict):
            break
    assert_read_or_refused(config)


COUNTED = (
    *("vocab_size", "padded_vocab_size", "tie_word_embeddings", "intermediate_size", "moe_intermediate_size"),
    *("n_routed_experts", "num_experts", "num_local_experts", "num_experts_per_tok", "n_shared_experts"),
    *("shared_expert_intermediate_size", "first_k_dense_replace", "moe_layer_freq", "decoder_sparse_step"),
    *("mlp_only_layers", "q_lora_rank", "attention_bias", "mlp_bias", "use_qk_norm"),
)
"""Fields that only the count of the parameters reads; the cache does not depend on them."""


@pytest.mark.parametrize("name", ["deepseek-ai__DeepSeek-V3", "Qwen__Qwen3-30B-A3B", "openai__gpt-oss-120b"])
@pytest.mark.parametrize("field", COUNTED)
def test_what_only_the_parameters_need_may_be_anything(name: str, field: str) -> None:
    values: tuple[Any, ...] = (None, True, "8", "", -1, 0, 3.5, 10**30, [], [[]], [None], {}, float("nan"))
    for value in values:
        assert_read_or_refused({**load_config(CONFIGS / f"{name}.json"), field: value})


@FUZZ
@given(st.data())
def test_fields_of_another_family_added(data: st.DataObject) -> None:
    one, other = (BASES[data.draw(st.sampled_from(NAMES))] for _ in range(2))
    names = data.draw(st.lists(st.sampled_from(sorted(other)), max_size=6))
    assert_read_or_refused({**one, **{name: other[name] for name in names}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["model_type", "text_config", "num_hidden_layers", "hidden_size", "x"]), json_values
    )
)
def test_arbitrary_objects(config: dict[str, Any]) -> None:
    assert_read_or_refused(config)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(load_config(data), dict)


DECISIVE = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim")
NO_SIZES: tuple[Any, ...] = ([8], [], {}, {"n": 8})
WRONG = (0, -1, -8, 1.0, 8.0, math.inf, math.nan, "8", "", True, False, *NO_SIZES, 2**60, 10**30)


@pytest.mark.parametrize("field", DECISIVE)
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_decisive_field_of_the_wrong_kind_is_named(field: str, value: Any) -> None:
    config = {**BASES["meta-llama__Meta-Llama-3.1-8B"], field: value}
    with pytest.raises(ValueError, match=field):
        spec_from_config(config)


@pytest.mark.parametrize("field", ["num_hidden_layers", "num_attention_heads", "hidden_size"])
def test_an_essential_field_missing_is_named(field: str) -> None:
    config = dict(BASES["meta-llama__Meta-Llama-3.1-8B"])
    del config[field]
    config.pop("head_dim", None)
    with pytest.raises(ValueError, match=field):
        spec_from_config(config)


@pytest.mark.parametrize("name", NAMES)
def test_fields_that_cannot_matter_do_not(name: str) -> None:
    """Rope scaling, token ids, quantisation of the weights: whatever they say, the cache is the same."""
    junk = {
        "rope_scaling": "junk",
        "eos_token_id": [None, -1],
        "vocab_size": -5,
        "quantization_config": [],
        "auto_map": 3,
    }
    base = BASES[name]
    assert spec_from_config({**base, **junk}).layers == spec_from_config(base).layers


@pytest.mark.parametrize("name", ["use_sliding_window", "layer_types", "hidden_size", "rope_scaling", "torch_dtype"])
@pytest.mark.parametrize("value", [[0] * 5000, "x" * 50_000, {"k" * 9000: 1}], ids=["list", "text", "object"])
def test_a_message_quotes_no_more_than_a_line_of_a_value(name: str, value: Any) -> None:
    config = {**BASES["Qwen__Qwen3-Next-80B-A3B-Instruct"], name: value}
    said = ""
    try:
        spec_from_config(config)
    except ValueError as error:
        said = str(error)
    assert len(said) < 500
    if name in ("use_sliding_window", "hidden_size"):
        assert name in said
