"""A small byte-level language model: Llama's architecture around the attention of ``layers.py``.

It has pre-norm with RMSNorm, rotary positions, SwiGLU and tied embeddings. Its MHA, GQA and MQA versions differ only in
``n_kv_heads``. Parameter names and conventions are those of transformers' Llama, so transformers can open a checkpoint,
and a converter for Llama can convert it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from attention.layers import GroupedQueryAttention
from attention.tiny.config import TinyConfig


class TinyMLP(nn.Module):
    """SwiGLU: three matrices, as in Llama."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.ffn_dim, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.ffn_dim, bias=False)
        self.down_proj = nn.Linear(config.ffn_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, length, hidden_size] -> the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class TinyLayer(nn.Module):
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.self_attn = GroupedQueryAttention(config.hidden_size, config.n_heads, config.head_dim, config.n_kv_heads)
        self.mlp = TinyMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, length, hidden_size] -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class TinyModel(nn.Module):
    """Embedding, layers and the last norm, under the names of transformers' Llama."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.hidden_size)
        self.layers = nn.ModuleList(TinyLayer(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)


class TinyLM(nn.Module):
    """The whole model: from bytes to logits of the next byte."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.model = TinyModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64[batch, length <= max_context] -> logits[batch, length, vocabulary]."""
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x)
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight)


def initialised(config: TinyConfig, seed: int) -> TinyLM:
    """A new model, whose weights depend only on the seed. Matrices that write to the residual stream start smaller, by
    1/sqrt of their number (GPT-2's rule)."""
    generator = torch.Generator().manual_seed(seed)
    model = TinyLM(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        scale = 0.02 if "embed" in name else config.hidden_size**-0.5 * 0.5
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            scale /= (2 * config.n_layers) ** 0.5
        with torch.no_grad():
            parameter.normal_(0.0, scale, generator=generator)
    return model


def loss(model: TinyLM, rows: Tensor) -> Tensor:
    """Mean cross-entropy in nats per byte over rows int64[batch, length + 1]."""
    logits = model(rows[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
