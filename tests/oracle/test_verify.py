"""Computed against the cache that each model's own code keeps on meta tensors: 0 bytes apart, or explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attention.configs.names import LAYERS
from attention.configs.reader import decoder_part, load_config, spec_from_config
from attention.jobs import verify as verify_job
from attention.oracle.built import supported
from attention.oracle.differences import explain
from attention.oracle.verify import STEPWISE, verify
from attention.spec import Kind, ModelSpec, PositionState, attention_layer
from tests.long import SOAK, drawn

DATA = Path(__file__).parents[1] / "data"
CONFIGS = {path.stem: load_config(path) for path in sorted((DATA / "configs").glob("*.json"))}
MORE = {name: row["config"] for name, row in json.loads((DATA / "configs_more.json").read_text()).items()}

CANNOT_BE_ASKED = {
    "meituan-longcat/LongCat-Flash-Chat": "item",  # its router reads values, which meta tensors have none of
    "Qwen/Qwen2.5-Omni-7B": "alone",
    "meta-llama/Llama-3.2-11B-Vision-Instruct": "alone",
}


def shortened(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with only as many of its first layers as it takes to include every distinct layer, so that
    all run within a minute. Checks at full depth are in attention/data/accuracy.json."""
    spec = spec_from_config(config)
    if any(layer.shares is not None for layer in spec.layers) or spec.model_type in ("longcat_flash", "gpt_neo"):
        return config
    seen: set[object] = set()
    needed = 1
    for index, layer in enumerate(spec.layers):
        if layer not in seen:
            seen.add(layer)
            needed = index + 1
    # transformers cannot ask a cache of linear layers alone for its length
    needed = min(max(needed, 2), spec.n_layers)
    out: dict[str, Any] = json.loads(json.dumps(config))
    part, _, _ = decoder_part(out)
    assert isinstance(part, dict)
    for name in (*LAYERS, "num_decoder_layers", "decoder_layers"):
        if part.get(name) is not None:
            part[name] = needed
    if "hybrid_override_pattern" in part:
        part["hybrid_override_pattern"] = part["hybrid_override_pattern"][:needed]
    if isinstance(linear := part.get("linear_attn_config"), dict):
        for name in ("full_attn_layers", "kda_layers"):
            linear[name] = [i for i in linear.get(name, []) if i <= needed]
    for name in ("attn_layer_indices", "cross_attention_layers", "full_attn_idxs", "sliding_window_layers"):
        if name in part:
            part[name] = [i for i in part[name] if i < needed]
    return out


def contexts(spec: ModelSpec, model_type: str) -> tuple[int, ...]:
    """One context below every window and one above each; prime numbers where there is no window."""
    windows = [s.window for layer in spec.layers for s in layer.states if isinstance(s, PositionState) and s.window]
    if model_type in STEPWISE:
        return 61, 251
    return (61, 1009) if not windows else (61, *(window + 53 for window in sorted(set(windows))))


def distinct() -> dict[str, dict[str, Any]]:
    """One configuration per model type, shape of layers and dtype: files that differ in names alone run once."""
    found: dict[object, tuple[str, dict[str, Any]]] = {}
    for name, config in {**CONFIGS, **MORE}.items():
        if supported(config) is None:
            short = shortened(config)
            spec = spec_from_config(short)
            found.setdefault((spec.model_type, spec.layers, spec.model_dtype, name in CANNOT_BE_ASKED), (name, short))
    return dict(found.values())


def kinds_of(name: str) -> object:
    """What sets a configuration of a type apart in kind, not in size."""
    spec = spec_from_config(DISTINCT[name])
    return spec.model_type, frozenset(type(s) for layer in spec.layers for s in layer.states), name in CANNOT_BE_ASKED


DISTINCT = distinct()
ASKED = list(DISTINCT) if SOAK else list({kinds_of(name): name for name in reversed(DISTINCT)}.values())


def test_most_configurations_can_be_asked() -> None:
    everything = {**CONFIGS, **MORE}
    reasons = [supported(config) for config in everything.values()]
    assert sum(reason is None for reason in reasons) > 0.8 * len(everything)
    assert all("no code of its own" in reason for reason in reasons if reason is not None)


@pytest.mark.parametrize("name", drawn(ASKED, len(ASKED) // 2))
def test_computed_is_what_the_models_own_code_keeps(name: str) -> None:
    config = DISTINCT[name]
    spec = spec_from_config(config, name)
    for context in contexts(spec, spec.model_type or ""):
        if name in CANNOT_BE_ASKED:
            with pytest.raises(ValueError, match=CANNOT_BE_ASKED[name]):
                verify(config, context, name)
            continue
        found = verify(config, context, name)
        assert len(found.layers) == spec.n_layers
        assert found.unexplained_bytes == 0, [c for c in found.layers if c.difference and not c.explanation][:3]
        assert found.n_parameters > 0
        differing = [c for c in found.layers if c.difference]
        for check in differing:
            assert check.explanation
            layer = spec.layers[check.index]
            assert (
                layer.kind in (Kind.SLIDING, Kind.CHUNKED, Kind.COMPRESSED) or "repeats each K/V" in check.explanation
            )
        if not differing:
            assert found.computed_bytes == found.allocated_bytes


def test_windowed_layers_differ_by_one_position_and_only_then() -> None:
    config = shortened(CONFIGS["openai__gpt-oss-120b"])
    below, above = (verify(config, context) for context in (61, 131))
    assert all(check.difference == 0 for check in below.layers)
    sliding = [check for check in above.layers if check.kind == "sliding"]
    assert sliding
    for check in sliding:
        assert check.difference == -2 * 8 * 64 * 2  # one position's K and V, 8 heads of 64, bf16
        assert check.explanation is not None
        assert "127 of the window's 128" in check.explanation


def test_falcon_stores_sixteen_times_its_heads() -> None:
    found = verify(shortened(CONFIGS["tiiuae__falcon-40b"]), 61)
    for check in found.layers:
        assert check.allocated_bytes == 16 * check.computed_bytes
        assert check.explanation is not None
        assert "128 heads where the model has 8" in check.explanation


def test_published_parameter_counts() -> None:
    """The built architecture has the published number of parameters."""
    assert verify(CONFIGS["meta-llama__Meta-Llama-3.1-8B"], 61).n_parameters == 8_030_261_248
    assert verify(CONFIGS["openai-community__gpt2"], 61).n_parameters == 124_439_808


def test_experts_in_half_precision_can_be_asked() -> None:
    """The products of experts are written for bfloat16 alone. It has the same size, so it is asked instead."""
    config = {**CONFIGS["mistralai__Mixtral-8x7B-v0.1"], "torch_dtype": "float16"}
    done = verify(config, 53)
    assert done.kv_dtype == "fp16"
    assert done.computed_bytes == done.allocated_bytes == 32 * 53 * 2 * 8 * 128 * 2


def test_a_difference_of_another_size_is_not_explained() -> None:
    layer = attention_layer(14, 7, 22, window=13)
    one_position = 2 * 7 * 22 * 2
    assert explain(layer, 13, 2, -one_position, "mistral")
    assert explain(layer, 13, 2, -one_position - 2, "mistral") is None
    assert explain(layer, 13, 2, one_position, "mistral") is None
    assert explain(layer, 12, 2, -one_position, "mistral") is None
    full = attention_layer(14, 7, 22)
    assert explain(full, 13, 2, one_position * 13, "falcon")
    assert explain(full, 13, 2, one_position * 13, "llama") is None


def test_a_wrong_reading_is_found_out() -> None:
    """The check can fail: here a model is claimed to have twice its K/V heads."""
    config = shortened(CONFIGS["meta-llama__Meta-Llama-3.1-8B"])
    claimed = spec_from_config({**config, "num_key_value_heads": 16})
    found = verify(config, 61, spec=claimed)
    assert found.unexplained_bytes == found.allocated_bytes == found.computed_bytes // 2
    assert all(check.explanation is None for check in found.layers)


def test_torch_is_left_as_it_was() -> None:
    import torch

    verify(shortened(CONFIGS["openai-community__gpt2"]), 61)
    assert torch.get_default_dtype() is torch.float32
    assert torch.zeros(2).device.type == "cpu"


@pytest.mark.parametrize(
    ("change", "context", "words"),
    [
        ({}, 1, "context"),
        ({}, 0, "context"),
        ({}, 2**30, "context"),
        ({"model_type": "palm"}, 61, "no code of its own"),
        ({"num_hidden_layers": None}, 61, "num_hidden_layers"),
    ],
)
def test_what_cannot_be_checked_says_why(change: dict[str, Any], context: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verify({**CONFIGS["meta-llama__Meta-Llama-3.1-8B"], **change}, context)


def test_long_contexts_of_stepwise_code_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="one by one"):
        verify(CONFIGS["ai21labs__Jamba-v0.1"], 4096)


def test_the_job_streams_and_returns_the_verification() -> None:
    items: list[dict[str, Any]] = []
    config = shortened(CONFIGS["openai-community__gpt2"])
    result = verify_job.run({"config": config, "name": "gpt2", "context": 61}, items.append, lambda: False)
    assert items[-1] == result
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(items[-1]))
    assert result["unexplained_bytes"] == 0
    assert items[0]["progress"] < items[1]["progress"]
    for payload in ({}, {"context": 61}, {"context": 61, "config": []}, {"context": "61", "config": config}):
        with pytest.raises(ValueError):
            verify_job.run(payload, items.append, lambda: False)
