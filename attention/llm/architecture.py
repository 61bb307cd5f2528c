"""The sizes and switches of a Llama-like model, read from a config.json or a GGUF file's pairs.

Llama, Mistral, Qwen2, Qwen3, SmolLM3 and Gemma 3 (text) are one decoder with switches: biases of the projections, norms
of queries and keys, layers without rotation, windows, norms after the blocks. Any other model is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attention.errors import shown
from attention.spec import check_size

TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text")
GGUF_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Architecture of a GGUF file -> model type. In a "llama" file the rows of queries and keys have another order."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary embedding of some layers: its base, and how it is stretched to longer contexts.

    Attributes:
        theta: the base.
        scaling: "default", "linear" (all frequencies are divided by `factor`) or "llama3" (only low frequencies are,
            by the rule of Llama 3.1's configuration).
        factor: how many times the context is stretched.
        low, high, original: of "llama3", `low_freq_factor`, `high_freq_factor` and the original context.
    """

    theta: float
    scaling: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def frequencies(self, head_dim: int) -> list[float]:
        """Radians per position of each of the head_dim / 2 pairs."""
        plain = [self.theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)]
        if self.scaling == "linear":
            return [one / self.factor for one in plain]
        return [self._stretched(one) for one in plain] if self.scaling == "llama3" else plain

    def _stretched(self, frequency: float) -> float:
        turns = self.original * frequency / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - self.low) / (self.high - self.low)))
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and switches of a model.

    Attributes:
        context: most positions that the model was made for.
        epsilon: what norms add to the mean square.
        windows: per layer, how many of the newest tokens it sees; 0 for all.
        rotations: per layer, its rotary embedding; None for a layer without rotation.
        qk_norm: queries and keys are normed head by head.
        norm_offset: what is added to a norm's weights (Gemma: 1).
        post_norms: the blocks' results are normed before they are added (Gemma).
        embedding_scale: the factor of the embedding.
        query_scale: the factor of the scores.
        activation: "silu" or "gelu_tanh".

    Raises:
        ValueError: n_kv_heads does not divide n_heads, or head_dim is odd.
    """

    model_type: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    context: int
    epsilon: float
    windows: tuple[int, ...]
    rotations: tuple[Rotation | None, ...]
    qk_norm: bool = False
    norm_offset: float = 0.0
    post_norms: bool = False
    embedding_scale: float = 1.0
    query_scale: float = 0.0
    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"num_key_value_heads must divide num_attention_heads = {self.n_heads}, got {self.n_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even to be rotated in pairs, got {self.head_dim}")

    @property
    def group_size(self) -> int:
        return self.n_heads // self.n_kv_heads


def of_config(config: Mapping[str, Any]) -> Architecture:
    """Read a config.json.

    Raises:
        ValueError: a model that is none of TYPES, or a field that is missing, out of range or not supported here.
    """
    kind = config.get("model_type")
    if kind not in TYPES:
        raise ValueError(f"model_type must be one of {', '.join(TYPES)} to run here, got {shown(kind)}")

    def size(name: str, default: Any = None, most: int = 2**20) -> int:
        value = config.get(name)
        return check_size(name, default if value is None else value, 1, most)

    n_layers, n_heads, hidden = size("num_hidden_layers", most=1000), size("num_attention_heads"), size("hidden_size")
    head_dim = size("head_dim", hidden // n_heads)
    gemma = kind == "gemma3_text"
    kinds = _layer_types(config, n_layers)
    window = config.get("sliding_window") if _windowed(config, kind) else None
    windows = tuple(check_size("sliding_window", window) if window and k == "sliding_attention" else 0 for k in kinds)
    unrotated = _unrotated(config, n_layers) if kind == "smollm3" else set()
    scale = float(config.get("query_pre_attn_scalar") or 256) ** -0.5 if gemma else head_dim**-0.5
    activation = config.get("hidden_activation" if gemma else "hidden_act") or (
        "gelu_pytorch_tanh" if gemma else "silu"
    )
    if activation not in ("silu", "gelu_pytorch_tanh"):
        raise ValueError(f"hidden_act must be silu or gelu_pytorch_tanh to run here, got {shown(activation)}")
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(name):
            raise ValueError(f"{name} = {shown(config[name])} is not done here; null is accepted")
    return Architecture(
        kind, n_layers, n_heads, size("num_key_value_heads", n_heads), head_dim, hidden,
        size("intermediate_size"), size("vocab_size", most=2**22), size("max_position_embeddings", 8192, 2**24),
        _number(config, "rms_norm_eps", 1e-6), windows,
        tuple(None if i in unrotated else _rotation(config, kinds[i], gemma) for i in range(n_layers)),
        qk_norm=kind in ("qwen3", "gemma3_text"), norm_offset=float(gemma), post_norms=gemma,
        embedding_scale=hidden**0.5 if gemma else 1.0, query_scale=scale,
        activation="silu" if activation == "silu" else "gelu_tanh",
    )  # fmt: skip


def _unrotated(config: Mapping[str, Any], n_layers: int) -> set[int]:
    """Layers without rotation: those with a 0 in SmolLM3's list, or every `no_rope_layer_interval`-th layer."""
    listed = config.get("no_rope_layers")
    if listed is None:
        every = check_size("no_rope_layer_interval", config.get("no_rope_layer_interval", 4))
        return {i for i in range(n_layers) if (i + 1) % every == 0}
    if not isinstance(listed, list) or len(listed) != n_layers:
        raise ValueError(f"no_rope_layers must have an entry for each of the {n_layers} layers, got {shown(listed)}")
    return {i for i, on in enumerate(listed) if not on}


def _layer_types(config: Mapping[str, Any], n_layers: int) -> list[str]:
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.get("sliding_window_pattern")
        if config["model_type"] == "gemma3_text":
            every = check_size("sliding_window_pattern", every or 6)
            return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(n_layers)]
        if config["model_type"] != "mistral" and config.get("use_sliding_window"):
            raise ValueError("use_sliding_window is stated without layer_types, which must say what layers it is for")
        return ["sliding_attention" if config["model_type"] == "mistral" else "full_attention"] * n_layers
    if not isinstance(kinds, list) or len(kinds) != n_layers or {*kinds} - {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"layer_types must name full_attention or sliding_attention for each of the {n_layers} layers, "
            f"got {shown(kinds)}"
        )
    return kinds


def _windowed(config: Mapping[str, Any], kind: str) -> bool:
    return kind in ("mistral", "gemma3_text") or bool(config.get("use_sliding_window"))


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e12:
        raise ValueError(f"{name} must be a number above 0, got {shown(value)}")
    return float(value)


def _rotation(config: Mapping[str, Any], layer_type: str, gemma: bool) -> Rotation:
    """A layer's rotation, from ``rope_parameters`` (for all layers, or by layer type) or the older ``rope_theta`` and
    ``rope_scaling``."""
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(stated, Mapping) and isinstance(stated.get(layer_type), Mapping):
        stated = stated[layer_type]
    if not isinstance(stated, Mapping):
        raise ValueError(f"rope_parameters must be an object, got {shown(stated)}")
    local = gemma and layer_type == "sliding_attention"
    if local and "rope_theta" not in stated:
        return Rotation(_number(config, "rope_local_base_freq", 10_000.0))
    theta = _number(stated if "rope_theta" in stated else config, "rope_theta", 1e6 if gemma else 10_000.0)
    scaling = stated.get("rope_type", stated.get("type", "default")) or "default"
    if scaling not in ("default", "linear", "llama3"):
        raise ValueError(f"rope_type must be default, linear or llama3 to run here, got {shown(scaling)}")
    if scaling == "default":
        return Rotation(theta)
    factor = _number(stated, "factor", 1.0)
    if scaling == "linear":
        return Rotation(theta, scaling, factor)
    low, high = _number(stated, "low_freq_factor", 1.0), _number(stated, "high_freq_factor", 4.0)
    if high <= low:
        raise ValueError(f"high_freq_factor must be above low_freq_factor = {low:g}, got {high:g}")
    original = check_size("original_max_position_embeddings", stated.get("original_max_position_embeddings", 8192))
    return Rotation(theta, scaling, factor, low, high, original)


def of_gguf(keys: Mapping[str, Any]) -> Architecture:
    """Read a GGUF file's pairs.

    Raises:
        ValueError: an architecture that does not run here, or a key that is missing or out of range.
    """
    arch = keys.get("general.architecture")
    if arch not in GGUF_TYPES:
        raise ValueError(f"general.architecture must be one of {', '.join(GGUF_TYPES)} to run here, got {shown(arch)}")
    names = {
        "num_hidden_layers": "block_count", "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv", "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length", "max_position_embeddings": "context_length",
        "head_dim": "attention.key_length", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "rope_theta": "rope.freq_base",
    }  # fmt: skip
    config: dict[str, Any] = {"model_type": GGUF_TYPES[arch]}
    for name, key in names.items():
        if (value := keys.get(f"{arch}.{key}")) is not None:
            config[name] = value
    scaling = keys.get(f"{arch}.rope.scaling.type", "none")
    if scaling == "linear":
        config["rope_scaling"] = {"rope_type": "linear", "factor": keys.get(f"{arch}.rope.scaling.factor", 1.0)}
    elif scaling != "none":
        raise ValueError(f"{arch}.rope.scaling.type must be none or linear to run here, got {shown(scaling)}")
    tokens = keys.get("tokenizer.ggml.tokens")
    config["vocab_size"] = keys.get(f"{arch}.vocab_size") or len(tokens if isinstance(tokens, list) else ())
    return of_config(config)
