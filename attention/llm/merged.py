"""A calibrated merge of K/V heads in half a minute: the merge of ``attention.convert`` while a reader waits.

The text passes through the original layers, and through the layers merged so far. Each layer's heads are merged on the
moments of its own inputs (``convert.merging``, a closed form). Then least squares solve the output projection for the
output of the original's attention, plus the error of the layers before. A part of the text that the solution does not
see judges it. ``python -m attention convert --pool calibrated`` fits all four projections in many steps and loses less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attention.convert.calibration import MAX_QUERIES, moments_of
from attention.convert.merging import merge_heads
from attention.convert.moments import Heads, Rotation
from attention.kernels.weights import Q8Blocks
from attention.llm.model import Layer, Model, Turns, attend_many
from attention.llm.products import Blocks, Dense, Product

TEST_SHARE = 6
"""One window in so many judges the solution."""
RIDGE = 1e-2
"""Weight of the penalty for leaving the merged output projection, as a share of the inputs' mean energy."""
BATCH = 4


@torch.inference_mode()
def calibrated(
    model: Model, n_kv_heads: int, windows: Sequence[Sequence[int]], tell: Callable[[str, float], None]
) -> Model:
    """The model with neighbouring K/V heads merged into `n_kv_heads`.

    Args:
        windows: windows of tokens of a text, all of one length.
        tell: called before each layer with words and the share that is done.

    Raises:
        ValueError: n_kv_heads does not divide the model's, or weights or activations are not finite.
    """
    a = model.architecture
    if n_kv_heads < 1 or a.n_kv_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide the model's {a.n_kv_heads}, got {n_kv_heads}")
    size = a.n_kv_heads // n_kv_heads
    groups = tuple(tuple(range(i * size, (i + 1) * size)) for i in range(n_kv_heads))
    was = model.embedded(torch.tensor([list(ids) for ids in windows]))
    now, layers = was, []
    few = replace(model, architecture=replace(a, n_kv_heads=n_kv_heads))
    turns = model.turns(0, was.shape[1])
    for index, layer in enumerate(model.layers):
        tell(f"merging K/V heads on {was.shape[0] * was.shape[1]:,} tokens: layer {index + 1} of {a.n_layers}",
             index / a.n_layers)  # fmt: skip
        x, written = _written(model, index, layer, was, turns)
        target = written if layer.norms.after_attention is not None else written + (was - now)
        new = _merged(model, index, layer, x, turns, groups)
        layers.append(_solved(few, index, new, now, target, turns))
        was = torch.cat([model.through_mlp(layer, model.added(layer, *pair)) for pair in _parts(was, written)])
        _, written = _written(few, index, layers[-1], now, turns)
        now = torch.cat([few.through_mlp(layers[-1], few.added(layer, *pair)) for pair in _parts(now, written)])
    return replace(few, layers=layers)


def _parts(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(x.split(BATCH) for x in tensors), strict=True))


def _attended(model: Model, index: int, layer: Layer, x: Tensor, turns: Turns) -> Tensor:
    """The heads' attention results for normed inputs x: [windows, length, n_heads * head_dim]."""
    out = []
    for part in x.split(BATCH):
        q, k, v = model.project(index, layer, part, turns)
        out.append(attend_many(q, k, v, model.architecture.windows[index]))
    return torch.cat(out)


def _written(model: Model, index: int, layer: Layer, stream: Tensor, turns: Turns) -> tuple[Tensor, Tensor]:
    """A layer's normed inputs, and its attention's output for them."""
    x = model.normed(stream, layer.norms.before_attention)
    return x, layer.o(_attended(model, index, layer, x, turns))


def _with_bias(product: Product, n_heads: int) -> Tensor:
    """A product's rows by head, [n_heads, head_dim, columns]. A bias is one more column."""
    weight, bias = product.dense()
    rows = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
    return rows.float().unflatten(0, (n_heads, -1))


def _merged(
    model: Model, index: int, layer: Layer, x: Tensor, turns: Turns, groups: tuple[tuple[int, ...], ...]
) -> Layer:
    """The layer with the projections of the closed form."""
    a = model.architecture
    k, v = _with_bias(layer.kv, 2 * a.n_kv_heads).chunk(2)
    o = layer.o.dense()[0].float().unflatten(1, (a.n_heads, a.head_dim))
    heads = Heads(_with_bias(layer.q, a.n_heads), k, v, o)
    weights = [_weights(model, index, layer, part, turns) for part in x.split(BATCH)]
    rotation = Rotation(a.head_dim if a.rotations[index] else 0)
    made = merge_heads(
        heads, moments_of(heads, x, weights, BATCH), rotation, groups, normed=layer.norms.query is not None
    ).heads
    hidden = x.shape[-1]

    def rows(like: Product, by_head: Tensor) -> Product:
        flat = by_head.flatten(0, 1)
        return _like(like, flat[:, :hidden], flat[:, -1] if flat.shape[1] > hidden else None)

    return replace(
        layer, q=rows(layer.q, made.q), kv=rows(layer.kv, torch.cat([made.k, made.v])),
        o=Dense(made.o.flatten(1), layer.o.dense()[1]),
    )  # fmt: skip


def _weights(model: Model, index: int, layer: Layer, x: Tensor, turns: Turns) -> Tensor:
    """Attention weights of at most MAX_QUERIES positions, [windows, n_heads, positions, length]."""
    a, n = model.architecture, x.shape[1]
    q, k, _ = model.project(index, layer, x, turns)
    rows = torch.linspace(0, n - 1, min(MAX_QUERIES, n)).long()
    grouped = q[:, :, rows].unflatten(1, (k.shape[1], -1))
    scores = (grouped @ k[:, :, None].mT * a.head_dim**-0.5).flatten(1, 2)
    back = rows[:, None] - torch.arange(n)[None]
    hidden = (back < 0) | ((back >= a.windows[index]) if a.windows[index] else torch.zeros_like(back, dtype=torch.bool))
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def _solved(model: Model, index: int, layer: Layer, stream: Tensor, target: Tensor, turns: Turns) -> Layer:
    """The layer with the output projection that fits the target best, if its error is lower on unseen windows too."""
    x = model.normed(stream, layer.norms.before_attention)
    read = _attended(model, index, layer, x, turns)
    weight, bias = layer.o.dense()
    target = target if bias is None else target - bias
    test = max(1, len(read) // TEST_SHARE) if len(read) > 1 else 0
    inputs, wanted = (part[test:].flatten(0, 1).double() for part in (read, target))
    gram = inputs.T @ inputs
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    right = inputs.T @ (wanted - inputs @ weight.double().T)
    solved = (weight.double() + torch.linalg.solve(gram + ridge, right).T).float()

    def error(one: Tensor) -> float:
        return float((read[:test] @ one.T - target[:test]).square().sum())

    best = solved if test and error(solved) < error(weight) else weight
    return replace(layer, o=_like(model.layers[index].o, best, bias))


def _like(original: Product, weight: Tensor, bias: Tensor | None) -> Product:
    """Weights in the original's form. Blocks become blocks of eight bits: the rounding loses far less than a merge."""
    if not isinstance(original, Blocks):
        return Dense(weight.to(original.dense()[0].dtype), bias)
    import gguf

    packed = gguf.quantize(weight.contiguous().numpy(), gguf.GGMLQuantizationType.Q8_0)
    return Blocks(Q8Blocks(torch.from_numpy(packed)), bias)
