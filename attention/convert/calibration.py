"""Merges a model's K/V heads layer by layer, calibrated on a text.

The text passes through the layers twice: through the original ones, and through the layers converted so far. Each layer
is merged on the moments of its own inputs (``merging``) and then refined: some steps of least squares fit its attention
to the output of the original's attention for the same text, plus the error of the layers before it. Windows that the
fit does not see decide whether the refined layer is better. If it is not, the merged layer stays.

Only attention modules change, and only the current layer needs to be in memory (``Layers``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attention.convert import attention_module as modules
from attention.convert.energy import kept_by_head
from attention.convert.grouping import best_groups, neighbours
from attention.convert.layouts import Layout
from attention.convert.merging import merge_heads
from attention.convert.moments import Moments, weigh
from attention.convert.refine import LayerReport, Settings, fit
from attention.errors import EnoughError

MAX_QUERIES = 64
"""Most positions of a window whose attention counts in the moments of values."""


class Layers(Protocol):
    """The decoder layers, one in memory at a time."""

    def __len__(self) -> int: ...
    def at(self, index: int) -> AbstractContextManager[nn.Module]:
        """The layer with its weights, for as long as the context lasts."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """The facts about the model that the converter needs. `n_rotated`: dimensions of a head that are rotated."""

    family: str
    layout: Layout
    n_heads: int
    n_kv_heads: int
    new_n_kv_heads: int
    n_rotated: int


Done = Callable[[LayerReport, dict[str, Tensor]], None]
Known = Callable[[int], dict[str, Tensor] | None]


class InMemory:
    """Layers of a model that is whole in memory."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self._layers = layers

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def at(self, index: int) -> Iterator[nn.Module]:
        yield self._layers[index]


@torch.no_grad()
def calibrate(
    layers: Layers,
    config: Any,
    shape: Shape,
    hidden: Tensor,
    arguments: list[dict[str, Any]],
    settings: Settings,
    done: Done,
    n_fit: int | None = None,
    known: Known = lambda layer: None,
) -> tuple[Tensor, Tensor]:
    """Merge all layers.

    Args:
        layers: the original's layers. The merged attention replaces a layer's own only during a pass.
        config: the model's config, for new attention modules; its attention must be "eager".
        shape: heads before and after.
        hidden: [windows, length, hidden], the embedded text.
        arguments: keyword arguments of each layer, for a batch of one.
        settings: how to merge.
        done: called after each layer, with its report and its new attention's tensors by their names in the module.
        n_fit: how many windows to calibrate on, None for all. The others only pass through the layers.
        known: layer -> its new attention's tensors if an earlier run finished the layer, else None.

    Returns:
        The last layer's output for all windows, [windows, length, hidden]: the original's and the converted model's.

    Raises:
        ValueError: a layer that cannot be merged, or whose output for the text is not finite.
    """
    _check_finite(hidden, "the embedding gives")
    was, now = hidden, hidden
    for index in range(len(layers)):
        with layers.at(index) as layer:
            old = modules.attention_of(layer, shape.layout)
            if (tensors := known(index)) is not None:
                was_next = _run(layer, was, arguments[index], settings.batch)
                new = modules.with_fewer_heads(old, config, shape.layout, shape.new_n_kv_heads, index)
                new.load_state_dict({name: t.to(hidden.device) for name, t in tensors.items()})
            else:
                fitted = slice(0, n_fit)
                seen, was_next = _observe(layer, old, was[fitted], arguments[index], settings.batch)
                try:
                    new, report = _convert_layer(
                        layer, old, index, config, shape, seen, was[fitted], now[fitted], arguments[index], settings
                    )
                except ValueError as error:
                    raise ValueError(f"layer {index}: {error}") from error
                _check_finite(was_next, f"layer {index} writes")
                if n_fit is not None:
                    was_next = torch.cat([was_next, _run(layer, was[n_fit:], arguments[index], settings.batch)])
                done(report, {name: t.detach() for name, t in new.state_dict().items()})
            with _replaced(layer, shape.layout, new):
                now = _run(layer, now, arguments[index], settings.batch)
            _check_finite(now, f"layer {index}, converted, writes")
            was = was_next
    return was, now


def _check_finite(hidden: Tensor, what: str) -> None:
    if not bool(hidden.isfinite().all()):
        raise ValueError(f"{what} NaN or infinity for the calibration text: weights are damaged, or too large")


@dataclass
class _Seen:
    """An attention module's inputs, outputs, keyword arguments and attention weights. `plain`: the layer adds the
    output to its own input without any scale or norm."""

    inputs: Tensor
    outputs: Tensor
    keywords: dict[str, Any]
    weights: list[Tensor]
    plain: bool


def _observe(
    layer: nn.Module, attention: nn.Module, hidden: Tensor, keywords: dict[str, Any], batch: int
) -> tuple[_Seen, Tensor]:
    inputs, outputs, results, weights = [], [], [], []
    inner: dict[str, Any] = {}
    plain = True
    following: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        given = dict(kwargs)
        x = args[0] if args else given.pop("hidden_states")
        inputs.append(x)
        outputs.append(output[0])
        if len(output) > 1 and output[1] is not None:
            rows = torch.linspace(0, x.shape[1] - 1, min(MAX_QUERIES, x.shape[1])).long()
            weights.append(output[1][:, :, rows])
        inner.update(given)

    hooks = [attention.register_forward_hook(note, with_kwargs=True)]
    norm = getattr(layer, "post_attention_layernorm", None)
    if norm is not None:
        hooks.append(norm.register_forward_pre_hook(lambda module, args: following.append(args[0])))
    try:
        for part in hidden.split(batch):
            results.append(_out(layer(part, **keywords)))
            # plain: the residual stream after attention is input plus output, without any scale or norm
            written = part + outputs[-1]
            near = 1e-5 * float(part.abs().max())
            plain = plain and len(following) == 1 and torch.allclose(following[0], written, rtol=1e-4, atol=near)
            following.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return _Seen(torch.cat(inputs), torch.cat(outputs), inner, weights, plain), torch.cat(results)


def _inputs(layer: nn.Module, attention: nn.Module, hidden: Tensor, keywords: dict[str, Any], batch: int) -> Tensor:
    """The inputs that the layer gives to its attention."""
    inputs: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])
        raise EnoughError

    hook = attention.register_forward_pre_hook(note, with_kwargs=True)
    try:
        for part in hidden.split(batch):
            try:
                layer(part, **keywords)
            except EnoughError:
                continue
    finally:
        hook.remove()
    return torch.cat(inputs)


def _run(layer: nn.Module, hidden: Tensor, keywords: dict[str, Any], batch: int) -> Tensor:
    if not len(hidden):
        return hidden
    return torch.cat([_out(layer(part, **keywords)) for part in hidden.split(batch)])


def _out(output: Any) -> Tensor:
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


@contextmanager
def _replaced(layer: nn.Module, layout: Layout, new: nn.Module) -> Iterator[None]:
    owner_name, _, name = layout.attention.rpartition(".")
    owner = layer.get_submodule(owner_name)
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


def moments_of(heads: Any, inputs: Tensor, weights: list[Tensor], batch: int) -> Moments:
    """The layer's moments over `inputs` [windows, length, hidden].

    Args:
        heads: the layer's :class:`~attention.convert.moments.Heads`.
        weights: per batch of windows, the attention weights [batch, n_heads, queries, length] of some positions. With
            an empty list the moments are of the values themselves, not of their averages.
        batch: windows that are multiplied at once.
    """
    n_kv, head_dim, columns = heads.k.shape
    n_heads = len(heads.q)

    def project(x: Tensor, rows: Tensor) -> Tensor:
        y = x @ rows[..., : x.shape[-1]].flatten(0, 1).T
        return y + rows[..., -1].flatten() if columns > x.shape[-1] else y

    device = inputs.device
    keys = torch.zeros(n_kv * head_dim, n_kv * head_dim, dtype=torch.float64, device=device)
    values = torch.zeros_like(keys)
    queries = torch.zeros(n_heads, head_dim, head_dim, dtype=torch.float64, device=device)
    for number, x in enumerate(inputs.split(batch)):
        k, v = project(x, heads.k), project(x, heads.v)
        q = project(x, heads.q).flatten(0, 1).unflatten(1, (n_heads, head_dim)).transpose(0, 1)
        keys += k.flatten(0, 1).T @ k.flatten(0, 1)
        queries += q.transpose(1, 2) @ q
        if weights:
            v = weights[number].to(v.dtype).flatten(1, 2) @ v
        values += v.flatten(0, 1).T @ v.flatten(0, 1)
    return Moments(keys, queries, values)


def _convert_layer(
    layer: nn.Module, old: nn.Module, index: int, config: Any, shape: Shape, seen: _Seen, was: Tensor, now: Tensor,
    keywords: dict[str, Any], settings: Settings,
) -> tuple[nn.Module, LayerReport]:  # fmt: skip
    state = old.state_dict()
    heads = modules.read_heads(state, shape.layout, shape.n_heads, shape.n_kv_heads)
    rotation = modules.rotation_of(shape.family, old, shape.n_rotated)
    moments = moments_of(heads, seen.inputs, seen.weights, settings.batch)
    groups = neighbours(shape.n_kv_heads, shape.new_n_kv_heads)
    weighted = weigh(heads, moments, rotation)
    if settings.grouping == "best":
        groups = best_groups(weighted, shape.new_n_kv_heads)
    normed = modules.is_normed(old)
    merged = merge_heads(heads, moments, rotation, groups, normed)
    new = modules.with_fewer_heads(old, config, shape.layout, shape.new_n_kv_heads, index)
    new.load_state_dict(modules.merged_state(state, merged, shape.layout))
    inputs = seen.inputs if torch.equal(now, was) else _inputs(layer, old, now, keywords, settings.batch)
    targets = seen.outputs + (was - now) if seen.plain else seen.outputs
    keys, values = kept_by_head(weighted, groups).T.tolist()
    report = fit(new, inputs, targets, seen.keywords, merged, index, settings)
    return new, replace(report, keys_kept_by_head=None if normed else tuple(keys), values_kept_by_head=tuple(values))
