"""A tiny model's attention over a text in NumPy, so that a page need not load torch.

The arithmetic is that of ``model.py`` and ``layers.py`` (a test compares them), but every attention map is kept. 256
bytes take some tens of milliseconds on one core.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from attention.tiny.config import DATA, TinyConfig


class Maps(NamedTuple):
    """A model's attention and predictions for one text.

    Attributes:
        attention: float32[n_layers, n_heads, length, length]. Row t has the shares of attention that byte t gives to
            each byte up to itself; it sums to 1.
        log_probabilities: float32[length, vocabulary], natural logarithms, of the byte after each position.
    """

    attention: np.ndarray
    log_probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class TinyWeights:
    """A stored model: its sizes, and name -> parameter as a float32 array."""

    config: TinyConfig
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def load_weights(path: Path) -> TinyWeights:
    """Read NAME.safetensors and the sizes in NAME.json beside it.

    Raises:
        ValueError: missing or damaged files, or weights that do not fit the sizes.
    """
    try:
        config = TinyConfig(**json.loads(path.with_suffix(".json").read_text())["config"])
        arrays = {name: value.astype(np.float32) for name, value in load_file(path).items()}
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"no tiny model in {path}: {error}") from error
    expected = {"model.layers.0.self_attn.k_proj.weight": (config.n_kv_heads * config.head_dim, config.hidden_size)}
    for name, shape in expected.items():
        if name not in arrays or arrays[name].shape != shape:
            raise ValueError(f"{path}: {name} must have shape {shape}")
    return TinyWeights(config, arrays)


def load_named(name: str) -> TinyWeights:
    """A shipped model, by its name in ``config.MODELS``.

    Raises:
        ValueError: see :func:`load_weights`.
    """
    return load_weights(DATA / f"{name}.safetensors")


def _norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def _rotate(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary positions on x[heads, length, head_dim]."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


def _attention(weights: TinyWeights, prefix: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(output[length, hidden], attention[n_heads, length, length]) of one layer's self-attention."""
    config, length = weights.config, len(x)

    def heads(name: str, n: int) -> np.ndarray:
        return (x @ weights[f"{prefix}.{name}.weight"].T).reshape(length, n, config.head_dim).transpose(1, 0, 2)

    q = _rotate(heads("q_proj", config.n_heads), config.rope_theta)
    k = _rotate(heads("k_proj", config.n_kv_heads), config.rope_theta)
    v = heads("v_proj", config.n_kv_heads)
    q = q.reshape(config.n_kv_heads, config.group_size, length, config.head_dim)
    scores = q @ k[:, None].swapaxes(-1, -2) * config.head_dim**-0.5
    scores += np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    out = (scores @ v[:, None]).reshape(config.n_heads, length, config.head_dim)
    out = out.transpose(1, 0, 2).reshape(length, -1) @ weights[f"{prefix}.o_proj.weight"].T
    return out, scores.reshape(config.n_heads, length, length)


def maps(weights: TinyWeights, text: bytes) -> Maps:
    """Run the model over `text`.

    Raises:
        ValueError: an empty text, or one longer than the model's context.
    """
    config = weights.config
    if not 1 <= len(text) <= config.max_context:
        raise ValueError(f"the text must have 1 to {config.max_context} bytes, got {len(text):,}")
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[np.frombuffer(text, dtype=np.uint8)]
    kept = []
    for index in range(config.n_layers):
        layer = f"model.layers.{index}"
        normed = _norm(x, weights[f"{layer}.input_layernorm.weight"], config.norm_eps)
        out, attention = _attention(weights, f"{layer}.self_attn", normed)
        kept.append(attention)
        x = x + out
        normed = _norm(x, weights[f"{layer}.post_attention_layernorm.weight"], config.norm_eps)
        gate = normed @ weights[f"{layer}.mlp.gate_proj.weight"].T
        up = normed @ weights[f"{layer}.mlp.up_proj.weight"].T
        # silu(gate) = gate / (1 + exp(-gate)), written so that no exponent overflows
        gated = gate * (0.5 + 0.5 * np.tanh(0.5 * gate)) * up
        x = x + gated @ weights[f"{layer}.mlp.down_proj.weight"].T
    logits = _norm(x, weights["model.norm.weight"], config.norm_eps) @ embedding.T
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return Maps(np.stack(kept), logits)
