"""Ask a model's own code what it caches: its architecture on meta tensors, one forward, every tensor counted.

transformers builds the architecture from the configuration without allocating a weight; one forward pass with a
cache leaves tensors whose shapes and dtypes are the cache, byte for byte. `verify` sets them beside what
``memory/footprint.py`` computes and explains each known difference (``differences.py``); anything else is reported
as unexplained.

Meant for the worker process: building a model sets torch's default dtype for the whole process meanwhile.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attention.configs import registry
from attention.configs.hf_classes import composite_default, config_object
from attention.configs.names import check_fields
from attention.configs.reader import decoder_part, spec_from_config, stated_layers
from attention.memory.footprint import layers_bytes
from attention.memory.load import check_context
from attention.oracle.differences import explain
from attention.oracle.inputs import encoder_decoder_class, forward_arguments, whole
from attention.spec import DTYPE_BYTES, ModelSpec, check_size

STEPWISE = frozenset(("jamba", "mamba", "falcon_mamba", "zamba", "rwkv", "recurrent_gemma"))
"""Types whose code walks through the tokens one by one when its fused kernels are missing."""
STEPWISE_CONTEXT = 1024
STEPWISE_HINT = "its states do not depend on the context, and its K/V is checked at this length as well"

TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

LOCK = threading.Lock()


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


def supported(config: Mapping[str, Any]) -> str | None:
    """None if the model's own code can be asked; else the reason why not.

    Raises:
        ValueError: the configuration itself is refused.
    """
    part, _, model_type = decoder_part(config)
    adapter = registry.find(model_type)
    if adapter.oracle_type(model_type) is None or adapter.foreign(part):
        return f"transformers has no code of its own for {model_type}, and code that comes with weights is never run"
    return None


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
        return _run(oracle_type, fields, prefix, tied, context, TORCH_DTYPES[dtype], batch, device)


def prepared(config: Mapping[str, Any]) -> tuple[str, dict[str, Any], str, bool]:
    """What a model is built from: (type of its code, fields, where they stand in the file, whether its output
    projection is its embedding).

    Raises:
        ValueError: the configuration is refused, or transformers has no code for it.
    """
    reason = supported(config)
    if reason is not None:
        raise ValueError(reason)
    part, prefix, model_type = decoder_part(config)
    adapter = registry.find(model_type)
    oracle_type = adapter.oracle_type(model_type)
    assert oracle_type is not None
    checked = check_fields(part, stated_layers(part, prefix), prefix, model_type)
    if adapter.prepare is not None:
        checked = adapter.prepare(checked)
    fields = {**part, **{name: value for name, value in checked.items() if value is not None}}
    return oracle_type, fields, prefix, _is_tied(config, part)


def _is_tied(config: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether a composite model's output projection is its embedding: stated, else its class's default."""
    for where in (part, config):
        if isinstance(where.get("tie_word_embeddings"), bool):
            return bool(where["tie_word_embeddings"])
    return composite_default(config.get("model_type"), "tie_word_embeddings") is not False


def _run(
    model_type: str, fields: dict[str, Any], prefix: str, tied: bool, context: int, dtype: str, batch: int, device: str
) -> Cache:
    from transformers import DynamicCache

    with _meta(model_type, device):
        model, settings, n_parameters = _made(model_type, fields, prefix, tied, dtype)
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


@contextlib.contextmanager
def _meta(model_type: str, device: str = "meta") -> Iterator[None]:
    """Everything on meta tensors (or another device); process-wide settings are put back. Whatever foreign code raises
    becomes a ValueError: it cannot be asked."""
    import torch
    import torch.fx.experimental._config

    previous = torch.get_default_dtype()
    validate = torch.distributions.Distribution._validate_args
    shapes = torch.fx.experimental._config
    assume = shapes.meta_nonzero_assume_all_nonzero
    # a router's choice of experts has no values on meta; whichever it is, the cache is the same
    shapes.meta_nonzero_assume_all_nonzero = True
    # Gemma-3n asks a distribution for a quantile; its argument check would need a value, which meta has none of
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with torch.device(device), torch.no_grad():
            yield
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(
            f"transformers' {model_type} cannot be run on {device} tensors: {type(error).__name__}: {text}"
        ) from error
    finally:
        torch.set_default_dtype(previous)
        torch.distributions.Distribution.set_default_validate_args(validate)
        shapes.meta_nonzero_assume_all_nonzero = assume


def _made(model_type: str, fields: dict[str, Any], prefix: str, tied: bool, dtype: str) -> tuple[Any, Any, int]:
    """(model, its settings, its parameter count), built inside ``_meta``."""
    settings = config_object(model_type, fields, prefix)
    _fill_in(settings)
    if (built := whole(settings)).is_encoder_decoder:
        # the other implementations ask whether a mask is all ones, which meta tensors cannot say
        model, n_parameters = _built(encoder_decoder_class(built), built, dtype, attn_implementation="eager")
        if built is not settings:
            n_parameters = sum(p.numel() for p in model.get_decoder().parameters())
    else:
        model, n_parameters = _decoder(settings, dtype, tied)
    return model, settings, n_parameters


def meta_built(model_type: str, fields: dict[str, Any], prefix: str) -> tuple[Any, Any, bool]:
    """(model on meta tensors, its settings, whether its output projection is part of it). Hold ``LOCK``.

    Raises:
        ValueError: the model's own code cannot be built.
    """
    with _meta(model_type):
        model, settings, _ = _made(model_type, fields, prefix, True, "bfloat16")
        return model, settings, model.get_output_embeddings() is not None


def _fill_in(settings: Any) -> None:
    """Write out what null means where some of transformers' modelling code trips on it (Nemotron, Hunyuan)."""

    def is_null(name: str) -> bool:
        try:
            return getattr(settings, name, 0) is None
        except RuntimeError:  # differs from layer to layer, so it is stated
            return False

    if is_null("num_key_value_heads"):
        settings.num_key_value_heads = settings.num_attention_heads
    if is_null("head_dim"):
        settings.head_dim = settings.hidden_size // settings.num_attention_heads


def _built(auto: Any, settings: Any, dtype: str, **more: Any) -> tuple[Any, int]:
    import torch

    # of the same size, and what the products of experts take
    dtype = "bfloat16" if dtype == "float16" else dtype
    model = auto.from_config(settings, dtype=getattr(torch, dtype), **more).eval()
    return model, sum(p.numel() for p in model.parameters())


def _decoder(settings: Any, dtype: str, tied: bool) -> tuple[Any, int]:
    """The language model; for the decoder of a composite model its body, whose output projection is counted."""
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING

    if settings.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return _built(AutoModelForCausalLM, settings, dtype)
    if type(settings) not in MODEL_MAPPING:
        raise LookupError("its decoder cannot be built alone")
    model, n_parameters = _built(AutoModel, settings, dtype)
    if not tied:
        n_parameters += settings.vocab_size * settings.hidden_size
    return model, n_parameters


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
    dtype = spec.model_dtype if spec.model_dtype in TORCH_DTYPES else "bf16"
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
