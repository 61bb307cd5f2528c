"""Ask a model's own code what it caches: its architecture on meta tensors, one forward, every tensor counted.

transformers builds the architecture from the configuration without allocating a weight; one forward pass with a
cache leaves tensors whose shapes and dtypes are the cache, byte for byte. `verify` sets them beside what
``memory/footprint.py`` computes and explains each known difference (``differences.py``); anything else is reported
as unexplained.

Meant for the worker process: building a model sets torch's default dtype for the whole process meanwhile.
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
"""Types whose code walks through the tokens one by one when its fused kernels are missing."""
STEPWISE_CONTEXT = 1024
STEPWISE_HINT = "its states do not depend on the context, and its K/V is checked at this length as well"


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """One layer, one sequence: bytes as computed, bytes in the model's own cache, and why they differ if they do."""

    index: int
    kind: str
    computed_bytes: int
    allocated_bytes: int
    explanation: str | None = None

    @property
    def difference(self) -> int:
        return self.allocated_bytes - self.computed_bytes


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        model, model_type: name and type.
        context, batch, kv_dtype: what was run.
        layers: one check per layer.
        computed_bytes, allocated_bytes: sums over layers, the batch.
        unexplained_bytes: sum of the absolute differences that no rule explains; 0 means exact.
        n_parameters: of the decoder (a composite model's vision tower is not built).
        seconds, peak_rss: of the check, and of the process (bytes).
        notes: what the reading of the configuration says.
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
    """A model's cache as its own code leaves it: elements and bytes by layer, and its parameter count."""

    layer_bytes: tuple[int, ...]
    n_parameters: int


def read_cache(
    config: Mapping[str, Any], context: int, dtype: str = "bf16", batch: int = 1, device: str = "meta"
) -> Cache:
    """Build the decoder on meta tensors, run `context` tokens through it, and count its cache.

    Args:
        config: a published configuration.
        context: tokens.
        dtype: of weights, and so of keys and values: bf16, fp16 or fp32.
        batch: sequences.
        device: "meta", or "cpu" for small models whose code looks at values.

    Raises:
        ValueError: transformers has no code for the type, or its code fails on this configuration.
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
        if model_type == "recurrent_gemma":  # it makes a cache of its own and does not return it
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
    """Bytes by layer; an encoder-decoder's two caches added up layer by layer."""
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
    """Every tensor in `value`, once; counters (0-dimensional) are no cache."""
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
    """Computed against allocated, layer by layer, one sequence.

    Args:
        config: a published configuration.
        context: tokens.
        name: what to call the model.
        spec: what was computed from; read from `config` if not given.

    Raises:
        ValueError: the configuration is refused, or the model's own code cannot be asked.
    """
    check_context(context)
    check_size("context", context, 2, 2**24)
    began = time.perf_counter()
    if spec is None:
        spec = spec_from_config(config, name)
    # quantised or unstated weights: the check runs in 16 bits, and both sides count in them
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
    """Most memory this process has held, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
