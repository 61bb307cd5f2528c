"""Configurations with one field changed, and how our reading of them is compared with the model's own code.

A base is a published configuration with few layers and short windows, so that its own code runs in a fraction of
a second and a short context fills every window.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

from attention.configs.families.ordinary import DECODING_ENCODERS
from attention.configs.names import FLAGS, LAYERS, MIXED, NATURAL, POSITIVE
from attention.configs.reader import decoder_part, spec_from_config, stated_layers
from attention.configs.registry import ADAPTERS, find
from attention.memory.footprint import layers_bytes
from attention.oracle.differences import explain
from attention.oracle.verify import read_cache
from attention.spec import DTYPE_BYTES
from tests.oracle.test_verify import CANNOT_BE_ASKED, DISTINCT

CONTEXT = 61
FEW_LAYERS = 8
WINDOW = 26
"""Even, so that its half is a whole number. Twice as much is still below the context."""

WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size", "sliding_window_size")

# no family's cache depends on these, and the code of some families is slow or fails without them
IDLE = frozenset(
    (
        *("model_type", "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "vocab_size"),
        *("rope_scaling", "rope_theta", "rope_parameters", "hidden_act", "activation_function", "initializer_range"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "use_cache"),
        *("quantization_config", "tie_word_embeddings", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"),
    )
)


def base(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with short windows."""
    out: dict[str, Any] = json.loads(json.dumps(config))
    part, _, _ = decoder_part(out)
    assert isinstance(part, dict)
    for name in WINDOWS:
        if isinstance(part.get(name), int):
            part[name] = WINDOW
    return out


# these take seconds with all their layers, or cannot be asked at all: meta tensors cannot pass through their code
SLOW_OR_MUTE = frozenset(("gemma3n_text", "longcat_flash", "qwen2_5_omni_text", "mllama_text_model", "gpt_neo"))


def shipped_bases() -> dict[str, dict[str, Any]]:
    """One configuration of each type and shape of layers, by name."""
    return {
        name: base(config)
        for name, config in DISTINCT.items()
        if decoder_part(config)[2] not in SLOW_OR_MUTE and name not in CANNOT_BE_ASKED
    }


LEFT_OPEN: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in DECODING_ENCODERS},
    **{name: {"head_dim": 128} for name in ("qwen3_omni_moe_text", "glm4v_moe_text")},
    **{name: {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2} for name in ("lfm2_moe", "lfm3")},
    "minimax": {"layer_types": ["linear_attention", "full_attention"] * 4},
    "bailing_hybrid": {"layer_group_size": 4},
    "deepseek_ref": {"compress_ratios": [0, 0, 4, 128, 4, 128, 4, 0]},
}
"""What the defaults of some classes leave open: a file must state it."""


def class_bases() -> dict[str, dict[str, Any]]:
    """The class's own defaults with few layers, for every type that is read and has no shipped file."""
    from transformers import AutoConfig, PretrainedConfig

    shipped = {decoder_part(config)[2] for config in DISTINCT.values()}
    out = {}
    for model_type, adapter in ADAPTERS.items():
        if adapter.oracle_type(model_type) is None or model_type in shipped:
            continue
        blank = AutoConfig.for_model(adapter.oracle_type(model_type))
        shared = {item.name for item in fields(PretrainedConfig)}
        config: dict[str, Any] = {"model_type": model_type}
        for item in fields(blank):
            if item.name in shared | IDLE or item.default in (None, MISSING):
                continue
            config[item.name] = item.default
        for name in LAYERS:
            if name in config:
                config[name] = min(config[name], FEW_LAYERS)
        out[model_type] = base(config | LEFT_OPEN.get(model_type, {}))
    return out


def with_field(config: dict[str, Any], name: str, value: Any = None, remove: bool = False) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(json.dumps(config))
    part, _, _ = decoder_part(out)
    assert isinstance(part, dict)
    if remove:
        part.pop(name, None)
    else:
        part[name] = value
    return out


def other_values(value: Any) -> Iterator[tuple[str, Any]]:
    if value is not None:
        yield "null", None
    if isinstance(value, bool):
        yield "flipped", not value
    elif isinstance(value, int):
        yield "0", 0
        yield "doubled", 2 * value
        if value > 1:
            yield "halved", value // 2
    elif isinstance(value, list):
        yield "emptied", []
    elif isinstance(value, dict):
        yield "emptied", {}
        for key, item in value.items():
            if not isinstance(item, dict):
                yield f"without {key}", {k: v for k, v in value.items() if k != key}
                for label, other in other_values(item):
                    yield f"{key} {label}", {**value, key: other}


def mutations(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what was done, the changed configuration) for every field, both those stated and those of other families."""
    part, _, _ = decoder_part(config)
    for name, value in part.items():
        if name in IDLE:
            continue
        yield f"{name} removed", with_field(config, name, remove=True)
        for label, other in other_values(value):
            yield f"{name} {label}", with_field(config, name, other)
    spec = spec_from_config(config)
    layer = next((layer for layer in spec.layers if layer.n_heads), spec.layers[0])
    n_heads, head_dim = layer.n_heads or 8, layer.k_head_dim or 64
    n_layers = stated_layers(part, "") or spec.n_layers
    for name in sorted(POSITIVE | NATURAL | FLAGS | MIXED):
        if name in part or name in IDLE:
            continue
        values: tuple[Any, ...] = (head_dim * 2,)
        if name in FLAGS:
            values = (True, False)
        elif "window" in name or name in ("attention_chunk_size", "local_attention"):
            values = (WINDOW, 1)
        elif name in MIXED:
            values = (2,)
        elif name in LAYERS or name.endswith("layers"):
            values = (1, n_layers)
        elif "heads" in name or "groups" in name or name in ("n_head_kv", "n_head", "multi_query_group_num"):
            values = (1, 2, n_heads)
        elif name in ("hidden_size", "n_embd", "n_embed", "d_model"):
            values = (n_heads * head_dim * 2,)
        for value in (*values, None):
            yield f"{name} = {value} added", with_field(config, name, value)
    for kind in ("full_attention", "sliding_attention", "linear_attention"):
        if "layer_types" not in part:
            yield f"layer_types {kind} added", with_field(config, "layer_types", [kind] * n_layers)
    for name, value in (
        ("attn_config", {"attn_type": "multiquery_attention", "kv_n_heads": 1}),
        ("no_rope_layers", [0] * n_layers),
        ("num_key_value_heads_per_layer", [1] * n_layers),
        ("compress_ratios", [4] * n_layers),
        ("attention_head_type", "multiquery"),
        ("cross_attention_layers", [0]),
    ):
        if name not in part:
            yield f"{name} added", with_field(config, name, value)


@cache
def words_of(model_type: str) -> frozenset[str]:
    """Every word in the source of a type's configuration and modelling code and of transformers' caches. A field whose
    name is not among them cannot change what is kept."""
    from transformers import AutoConfig, PretrainedConfig, cache_utils

    kind = type(AutoConfig.for_model(model_type))
    files = {Path(inspect.getfile(cache_utils)), Path(inspect.getfile(PretrainedConfig))}
    for base_class in kind.__mro__:
        if base_class.__module__.startswith("transformers.models."):
            folder = Path(inspect.getfile(base_class)).parent
            files |= set(folder.glob("configuration_*.py")) | set(folder.glob("modeling_*.py"))
    return frozenset(re.findall(r"\w+", " ".join(path.read_text() for path in files)))


def matters(config: dict[str, Any], label: str, changed: dict[str, Any]) -> bool:
    """Whether a mutation is worth comparing: we read it, and either our layers change or the model's code knows the
    field."""
    try:
        now = spec_from_config(changed).layers
    except ValueError:
        return False
    _, _, model_type = decoder_part(config)
    known = words_of(find(model_type).oracle_type(model_type) or model_type)
    return label.split()[0] in known or now != spec_from_config(config).layers


def silent(config: dict[str, Any]) -> str:
    """ "" where we refuse, or our bytes of every layer equal those of the model's own code; else what differs.

    Starts with "?" where the model's own code cannot be asked.
    """
    try:
        spec = spec_from_config(config)
    except ValueError:
        return ""
    _, _, model_type = decoder_part(config)
    dtype = spec.model_dtype if spec.model_dtype in ("bf16", "fp16", "fp32") else "bf16"
    try:
        theirs = list(read_cache(config, CONTEXT, dtype).layer_bytes)
    except ValueError as error:
        return f"? {error}"
    ours = [layer.state_bytes for layer in layers_bytes(spec, CONTEXT, dtype)]
    length = max(len(ours), len(theirs))
    ours += [0] * (length - len(ours))
    theirs += [0] * (length - len(theirs))
    for index, (mine, own) in enumerate(zip(ours, theirs, strict=True)):
        layer = spec.layers[index] if index < len(spec.layers) else None
        if mine == own or (layer and explain(layer, CONTEXT, DTYPE_BYTES[dtype], own - mine, model_type)):
            continue
        return f"layer {index}: {mine:,} bytes read, {own:,} kept"
    return ""
