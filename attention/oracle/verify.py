"""Counts the cache of a model's own code: the model is built on meta tensors and runs one forward pass.

transformers builds the architecture from the configuration without memory for weights. One forward pass with a cache
leaves tensors whose shapes and dtypes give the cache to the byte. `verify` compares them with what
``memory/footprint.py`` computes, and explains each known difference (``differences.py``). Any other difference is
reported as unexplained.

Use it in the worker process: while a model is built, torch's default dtype differs for the whole process.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attention.configs.reader import decoder_part, spec_from_config
from attention.formats import TORCH_NAMES
from attention.memory.footprint import layers_bytes
from attention.memory.load import check_context
from attention.oracle.built import LOCK, made, on_meta, prepared
from attention.oracle.differences import explain
from attention.oracle.inputs import forward_arguments, whole
from attention.spec import DTYPE_BYTES, ModelSpec, check_size

STEPWISE = frozenset(("jamba", "mamba", "falcon_mamba", "zamba", "rwkv", "recurrent_gemma"))
"""Types whose code processes tokens one by one where its fused kernels are missing."""
STEPWISE_CONTEXT = 1024
STEPWISE_HINT = "its states do not depend on the context, and its K/V is checked at this length as well"


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """One layer for one sequence: the computed bytes, the bytes in the model's own cache, and why they differ.

    Attributes:
        explanation: the reason for a difference; None without a difference or without a known reason.
    """

    index: int
    kind: str
    computed_bytes: int
    allocated_bytes: int
    explanation: str | None = None

    @property
    def difference(self) -> int:
        """Allocated less computed bytes."""
        return self.allocated_bytes - self.computed_bytes


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Attributes:
        model, model_type: name and type of the model.
        context, batch, kv_dtype: tokens, sequences and dtype of the run.
        layers: one check per layer.
        computed_bytes, allocated_bytes: sums over all layers for the batch.
        unexplained_bytes: sum of the absolute differences that no rule explains; 0 means exact.
        n_parameters: parameters of the decoder (a composite model's vision tower is not built).
        seconds: time of the check; peak_rss: most memory of the process so far, in bytes.
        notes: notes from reading the configuration.
    """

    model: str
    model_type: str
    context: int
    batch: int
    kv_dtype: str
    layers: tuple[LayerCheck, ...]
    computed_bytes: int
    allocated_bytes: int
    unexplained_bytes: int
    n_parameters: int
    seconds: float
    peak_rss: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache of a model's own code: its bytes by layer, and the model's number of parameters."""

    layer_bytes: tuple[int, ...]
    n_parameters: int


def read_cache(
    config: Mapping[str, Any], context: int, dtype: str = "bf16", batch: int = 1, device: str = "meta"
) -> Cache:
    """Build the decoder on meta tensors, run `context` tokens through it, and count its cache.

    Args:
        config: a published configuration.
        context: number of tokens.
        dtype: dtype of weights, and so of keys and values: bf16, fp16 or fp32.
        batch: number of sequences.
        device: "meta", or "cpu" for small models whose code reads values.

    Raises:
        ValueError: transformers has no code for the type, its code fails on this configuration, or the context is too
            long for code that processes tokens one by one.
    """
    oracle_type, fields, prefix, tied = prepared(config)
    if oracle_type in STEPWISE and context > STEPWISE_CONTEXT:
        raise ValueError(
            f"context must be at most {STEPWISE_CONTEXT:,} for {oracle_type}, whose code walks through tokens one by "
            f"one, got {context:,}; {STEPWISE_HINT}"
        )
    with LOCK:
        return _run(oracle_type, fields, prefix, tied, context, TORCH_NAMES[dtype], batch, device)


def _run(
    model_type: str, fields: dict[str, Any], prefix: str, tied: bool, context: int, dtype: str, batch: int, device: str
) -> Cache:
    from transformers import DynamicCache

    with on_meta(model_type, device):
        model, settings, n_parameters = made(model_type, fields, prefix, tied, dtype)
        given = forward_arguments(model, whole(settings), context, batch)
        if model_type == "recurrent_gemma":  # without a given cache it makes one and does not return it
            given["past_key_values"] = DynamicCache(config=settings)
        out = model(**given)
    cache = given.get("past_key_values") or getattr(out, "past_key_values", None)
    if cache is None:
        cache = getattr(out, "cache_params", None)
    if cache is None:
        raise ValueError(f"transformers' {model_type} returned no cache")
    n_layers = int(getattr(settings, "decoder_layers", settings.num_hidden_layers))
    return Cache(tuple(_layer_bytes(cache, n_layers, model)), n_parameters)


def _layer_bytes(cache: Any, n_layers: int, model: Any) -> list[int]:
    """Bytes by layer. The two caches of an encoder-decoder are added up layer by layer."""
    parts = [getattr(cache, name) for name in ("self_attention_cache", "cross_attention_cache") if hasattr(cache, name)]
    held: list[tuple[int, Any]] = []
    for part in parts or [cache]:
        held += [(index, vars(layer)) for index, layer in enumerate(part.layers)]
    # MiniMax keeps the matrices of its lightning layers in a list beside the layers
    held += list(enumerate(getattr(cache, "linear_cache", ())))
    if model.config.model_type == "recurrent_gemma":  # its recurrent blocks keep their states in the modules
        for index, layer in enumerate(model.model.layers):
            block = layer.temporal_block
            held.append((index, [getattr(block, "conv1d_state", None)]))
            held.append((index, [getattr(getattr(block, "rg_lru", None), "recurrent_states", None)]))
    sums = [0] * max([n_layers, *(index + 1 for index, _ in held)])
    seen: set[int] = set()
    for index, value in held:
        sums[index] += sum(t.numel() * t.element_size() for t in _tensors(value, seen))
    return sums


def _tensors(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every tensor in `value`, once. 0-dimensional tensors are counters and not part of the cache."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.dim() and id(value) not in seen:
            seen.add(id(value))
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)


def verify(
    config: Mapping[str, Any], context: int, name: str = "config.json", spec: ModelSpec | None = None
) -> Verification:
    """Compare the computed cache with that of the model's own code, layer by layer, for one sequence.

    Args:
        config: a published configuration.
        context: number of tokens, at least 2.
        name: what to call the model.
        spec: the model's layers; read from `config` if not given.

    Raises:
        ValueError: the context is out of range, the configuration is refused, or the model's own code cannot be run.
    """
    check_context(context)
    check_size("context", context, 2, 2**24)
    began = time.perf_counter()
    if spec is None:
        spec = spec_from_config(config, name)
    # for quantised or unstated weights the check runs in 16 bits, and both sides count in 16 bits
    dtype = spec.model_dtype if spec.model_dtype in TORCH_NAMES else "bf16"
    assert dtype is not None
    cache = read_cache(config, context, dtype)
    _, _, model_type = decoder_part(config)
    computed = [layer.state_bytes for layer in layers_bytes(spec, context, dtype)]
    allocated = list(cache.layer_bytes) + [0] * (len(computed) - len(cache.layer_bytes))
    if len(allocated) > len(computed):
        computed += [0] * (len(allocated) - len(computed))
    checks = []
    for index, (ours, theirs) in enumerate(zip(computed, allocated, strict=True)):
        layer = spec.layers[index] if index < len(spec.layers) else None
        why = None
        if ours != theirs and layer is not None:
            why = explain(layer, context, DTYPE_BYTES[dtype], theirs - ours, model_type)
        checks.append(LayerCheck(index, str(layer.kind) if layer else "unknown", ours, theirs, why))
    return Verification(
        model=name,
        model_type=model_type,
        context=context,
        batch=1,
        kv_dtype=dtype,
        layers=tuple(checks),
        computed_bytes=sum(computed),
        allocated_bytes=sum(allocated),
        unexplained_bytes=sum(abs(c.difference) for c in checks if c.explanation is None),
        n_parameters=cache.n_parameters,
        seconds=time.perf_counter() - began,
        peak_rss=peak_rss(),
        notes=spec.notes,
    )


def peak_rss() -> int:
    """Most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
