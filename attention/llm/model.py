"""A Llama-like decoder with this project's own attention: ``layers.attend`` for prompts, the native kernel for steps.

Source of the layout: Touvron et al. 2023 (arXiv:2302.13971, section 2.2) and the published configurations of the models
that `architecture` names. Query head i reads K/V head ``i // group_size``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, rms_norm, scaled_dot_product_attention, silu

from attention.kernels import matvec, native, plain
from attention.kernels.layer import NativeLayer
from attention.kernels.weights import Q4Blocks, Q8Blocks
from attention.layers import KVCache, attend, merge_heads, split_heads
from attention.llm import caches as kept
from attention.llm import weights
from attention.llm.architecture import Architecture
from attention.llm.caches import Cache, RoundedCache
from attention.llm.products import GGML_KINDS, Product, blocks, stacked

Observer = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with (layer's number, q, k, v) before a layer attends: each [batch, heads, tokens, head_dim], rotated."""


Turns = Mapping[object, tuple[Tensor, Tensor]]
"""Rotation -> cosine and sine of the new positions, for each rotation that layers have."""


class Norms(NamedTuple):
    """Weights of a layer's norms. Norms that the model does not have are None."""

    before_attention: Tensor
    before_mlp: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    after_attention: Tensor | None = None
    after_mlp: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """The products of a layer. `kv` has the rows of keys, then of values; `gate_up` those of gate, then of up."""

    q: Product
    kv: Product
    o: Product
    gate_up: Product
    down: Product
    norms: Norms

    @property
    def products(self) -> tuple[Product, ...]:
        return self.q, self.kv, self.o, self.gate_up, self.down

    @property
    def nbytes(self) -> int:
        """Bytes of weights that a step reads."""
        return sum(p.nbytes for p in self.products) + sum(norm.nbytes for norm in self.norms if norm is not None)


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory. Models that differ only in sharing have all tensors in common but the rows of keys and values.

    (A calibrated merge also has its own query and output projections.)
    """

    architecture: Architecture
    embed: Product
    layers: Sequence[Layer]
    norm: Tensor
    head: Product

    @property
    def step_bytes(self) -> int:
        """Bytes of weights that a decode step reads: all weights, but only one row of the embedding."""
        row = self.embed.nbytes // self.architecture.vocab_size
        return sum(layer.nbytes for layer in self.layers) + self.head.nbytes + self.norm.nbytes + row

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the matrices, the kind with the most bytes first."""
        bytes_of: dict[str, int] = {}
        for product in (self.head, *(p for layer in self.layers for p in layer.products)):
            bytes_of[product.kind] = bytes_of.get(product.kind, 0) + product.nbytes
        return tuple(sorted(bytes_of, key=lambda kind: -bytes_of[kind]))

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.dtype

    def caches(
        self, capacity: int, batch: int = 1, k_dtype: str | None = None, v_dtype: str | None = None
    ) -> list[Cache]:
        """Empty caches, one a layer, in formats of ``plan.CACHE_DTYPES``.

        Args:
            capacity: most tokens of a cache.
            k_dtype: format of the keys; None takes the model's dtype for both.
            v_dtype: format of the values; None takes that of the keys.
        """
        a = self.architecture
        if k_dtype is None:
            return [KVCache(batch, a.n_kv_heads, capacity, a.head_dim, self.dtype) for _ in range(a.n_layers)]
        return [
            kept.empty(batch, a.n_kv_heads, capacity, a.head_dim, k_dtype, v_dtype or k_dtype)
            for _ in range(a.n_layers)
        ]

    @torch.inference_mode()
    def forward(
        self, ids: Tensor, caches: Sequence[Cache], *, every: bool = False, observe: Observer | None = None
    ) -> Tensor:
        """Take in the newest tokens and extend the caches.

        Args:
            ids: int64 [batch, new].
            every: give the logits of all new positions, not only of the last one.
            observe: called before each layer attends.

        Returns:
            float32 logits [batch, new or 1, vocab_size].

        Raises:
            ValueError: more tokens than the caches' capacity.
        """
        a = self.architecture
        turns = self.turns(caches[0].length, ids.shape[1])
        x = self.embedded(ids)
        if observe is None and ids.shape[1] == 1 and len(ids) <= matvec.MOST and self._native is not None:
            x = self._native_step(self._native, x, caches, turns)
            return self.head(self.normed(x, self.norm)).float()
        for index, (layer, cache) in enumerate(zip(self.layers, caches, strict=True)):
            q, k, v = self.project(index, layer, self.normed(x, layer.norms.before_attention), turns)
            if observe is not None:
                observe(index, q, k, v)
            h = layer.o(self._attend(q, k, v, cache, a.windows[index]))
            x = self.through_mlp(layer, self.added(layer, x, h))
        return self.head(self.normed(x if every else x[:, -1:], self.norm)).float()

    def added(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """The residual stream x plus the output h of a layer's attention."""
        n = layer.norms.after_attention
        return x + (h if n is None else self.normed(h, n))

    def through_mlp(self, layer: Layer, x: Tensor) -> Tensor:
        """The residual stream x after a layer's MLP."""
        n = layer.norms
        gate, up = layer.gate_up(self.normed(x, n.before_mlp)).chunk(2, dim=-1)
        h = layer.down((silu(gate) if self.architecture.activation == "silu" else gelu(gate, approximate="tanh")) * up)
        return x + (h if n.after_mlp is None else self.normed(h, n.after_mlp))

    @cached_property
    def _native(self) -> list[NativeLayer] | None:
        """The layers for a native step of few sequences; None if one is not just norm, attention, norm and SwiGLU in
        weights that the native products take."""
        a = self.architecture
        if a.activation != "silu" or abs(a.query_scale * a.head_dim**0.5 - 1) > 1e-12 or self.dtype != torch.float32:
            return None
        found = []
        for layer in self.layers:
            n, products = layer.norms, [product.stored() for product in layer.products]
            held = [one for one in products if one is not None]
            if len(held) < len(products) or any(one is not None for one in n[2:]):
                return None
            q, kv, o, gate_up, down = held
            found.append(NativeLayer(q, kv, o, gate_up, down, (n.before_attention, n.before_mlp), a.epsilon))
        return found

    def _native_step(
        self,
        native_layers: Sequence[NativeLayer],
        x: Tensor,
        caches: Sequence[Cache],
        turns: Turns,
    ) -> Tensor:
        """One step through all layers, [batch, 1, hidden] -> the same shape, with three calls a layer."""
        a = self.architecture
        x = x[:, 0].contiguous()
        for index, (layer, cache) in enumerate(zip(native_layers, caches, strict=True)):
            q, kv = layer.before(x, turns.get(a.rotations[index]), a.head_dim)
            k, v = kv.view(len(x), 2 * a.n_kv_heads, 1, a.head_dim).chunk(2, dim=1)
            heads = self._attend(q.view(len(x), a.n_heads, 1, a.head_dim), k, v, cache, a.windows[index])
            layer.after(heads.contiguous(), x)
        return x[:, None]

    def embedded(self, ids: Tensor) -> Tensor:
        """int64 [batch, new] -> [batch, new, hidden]: the residual stream before the first layer."""
        x, scale = self.embed.rows(ids), self.architecture.embedding_scale
        return x if scale == 1 else x * torch.tensor(scale, dtype=x.dtype)

    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last dimension of x."""
        return rms_norm(x, weight.shape, weight, self.architecture.epsilon)

    def project(self, index: int, layer: Layer, h: Tensor, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """A layer's normed input [batch, new, hidden] -> q, k, v [batch, heads, new, head_dim], rotated."""
        a = self.architecture
        turn = turns.get(a.rotations[index])
        q = split_heads(layer.q(h), a.n_heads)
        k, v = split_heads(layer.kv(h), 2 * a.n_kv_heads).chunk(2, dim=1)
        if layer.norms.query is not None and layer.norms.key is not None:
            q, k = self.normed(q, layer.norms.query), self.normed(k, layer.norms.key)
        if turn is not None:
            q, k = _rotate(q, *turn), _rotate(k, *turn)
        scale = a.query_scale * a.head_dim**0.5
        # kernels multiply scores by head_dim^-0.5
        return (q if abs(scale - 1) < 1e-12 else q * scale), k, v

    def turns(self, start: int, new: int) -> dict[object, tuple[Tensor, Tensor]]:
        """Cosine and sine [new, head_dim / 2] of the new positions, for each rotation that layers have."""
        out: dict[object, tuple[Tensor, Tensor]] = {}
        position = torch.arange(start, start + new, dtype=torch.float64)[:, None]
        for rotation in set(self.architecture.rotations) - {None}:
            assert rotation is not None
            # angles are float64: at position 100,000 float32 has an error of 0.004 rad
            angle = position * torch.tensor(rotation.frequencies(self.architecture.head_dim), dtype=torch.float64)
            out[rotation] = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache, window: int) -> Tensor:
        """Extend the cache with k and v, and attend to all that it holds: q [batch, n_heads, new, head_dim] ->
        [batch, new, n_heads * head_dim]."""
        dtype = q.dtype
        if isinstance(cache, RoundedCache):
            cache.append(k, v)
            if q.shape[2] == 1:
                return cache.attend(q, window).transpose(1, 2).flatten(2)
            return attend_many(q, *cache.widened(dtype), window)
        k, v = cache.append(k, v)
        if q.shape[2] == 1:
            if window and cache.length > window:
                k, v = k[:, :, -window:], v[:, :, -window:]
            return _decode(q.to(k.dtype), k, v).transpose(1, 2).flatten(2).to(dtype)
        return attend_many(q, k.to(dtype), v.to(dtype), window)


def attend_many(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention of the newest tokens: q [batch, n_heads, new, head_dim], k and v [batch, n_kv_heads, context,
    head_dim] -> [batch, new, n_heads * head_dim]. Each token sees the last `window` tokens, 0 for all."""
    new, context = q.shape[2], k.shape[2]
    if window and context > window:
        row = torch.arange(context - new, context)[:, None]
        column = torch.arange(context)[None]
        seen = (column <= row) & (column > row - window)
        out = scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)
        return out.transpose(1, 2).flatten(2)
    return merge_heads(attend(q.unflatten(1, (k.shape[1], -1)), k, v))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``layers.rotate``, but with angles that are computed once per step for all layers."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def _decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One step by the native kernel, or by PyTorch where that kernel cannot run the shape."""
    if q.device.type == "cpu" and native.why_not(q.shape[-1]) is None:
        return native.decode(q, k, v)
    return plain.folded_matmul(q, k, v)


def load(path: Path, dtype: torch.dtype = torch.float32, *, as_blocks: bool = True) -> Model:
    """Read a model's weights into memory, each tensor once.

    Args:
        path: a GGUF file, or a folder with config.json and safetensors.
        dtype: dtype of the weights that do not stay blocks.
        as_blocks: keep a GGUF file's blocks of four or eight bits, where native products can multiply them and `dtype`
            is float32.

    Raises:
        ValueError: a model that is not Llama-like, damaged files, or weights that do not fit the sizes.
    """
    return assemble(weights.source(path), dtype, as_blocks=as_blocks)


def assemble(source: weights.Source, dtype: torch.dtype, *, as_blocks: bool = True) -> Model:
    """A model from a source's tensors, see :func:`load`."""
    a = source.architecture
    native_products = as_blocks and dtype == torch.float32 and matvec.unavailable("cpu") is None

    def take(name: str, *shape: int) -> Tensor:
        return weights.check_shape(name, source.tensor(name, dtype), shape)

    def norm(name: str, size: int) -> Tensor:
        return take(name, size) + a.norm_offset if a.norm_offset else take(name, size)

    def matrix(name: str, n_out: int, n_in: int) -> Tensor | Q4Blocks | Q8Blocks:
        raw = source.blocks(name) if native_products and name in source else None
        if raw is None or raw[1] not in GGML_KINDS:
            return take(name, n_out, n_in)
        found = blocks(torch.from_numpy(np.array(raw[0])), raw[1])
        weights.check_shape(name, found, (n_out, n_in))
        return found

    def product(name: str, n_out: int, n_in: int) -> tuple[Tensor | Q4Blocks | Q8Blocks, Tensor | None]:
        bias = f"{name}.bias"
        return matrix(f"{name}.weight", n_out, n_in), take(bias, n_out) if bias in source else None

    layers = []
    q_rows, kv_rows = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
    for index in range(a.n_layers):
        at = f"model.layers.{index}."
        after = ("post_attention_layernorm", "post_feedforward_layernorm") if a.post_norms else ()
        before_mlp = "pre_feedforward_layernorm" if a.post_norms else "post_attention_layernorm"
        norms = Norms(
            norm(f"{at}input_layernorm.weight", a.hidden_size),
            norm(f"{at}{before_mlp}.weight", a.hidden_size),
            *(norm(f"{at}self_attn.{n}_norm.weight", a.head_dim) if a.qk_norm else None for n in "qk"),
            *(norm(f"{at}{name}.weight", a.hidden_size) for name in after),
        )
        k, v = (product(f"{at}self_attn.{n}_proj", kv_rows, a.hidden_size) for n in "kv")
        gate, up = (product(f"{at}mlp.{n}_proj", a.intermediate_size, a.hidden_size) for n in ("gate", "up"))
        layers.append(
            Layer(
                stacked([product(f"{at}self_attn.q_proj", q_rows, a.hidden_size)]),
                stacked([k, v]),
                stacked([product(f"{at}self_attn.o_proj", a.hidden_size, q_rows)]),
                stacked([gate, up]),
                stacked([product(f"{at}mlp.down_proj", a.hidden_size, a.intermediate_size)]),
                norms,
            )
        )
    embed = stacked([(matrix("model.embed_tokens.weight", a.vocab_size, a.hidden_size), None)])
    # a tied model's head is its embedding
    own = "lm_head.weight"
    head = stacked([(matrix(own, a.vocab_size, a.hidden_size), None)]) if own in source else embed
    return Model(a, embed, layers, norm("model.norm.weight", a.hidden_size), head)
