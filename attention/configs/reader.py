"""A published Hugging Face ``config.json`` → :class:`ModelSpec`, or a refusal that says why.

Aliases, class defaults and derived per-layer lists come from transformers' own configuration classes (``AutoConfig``,
no weights, no remote code). Where families differ in what they cache, each has an adapter in
``attention/configs/families``. Nothing is guessed: a file that leaves out an essential size, states a type that is not
described here, or contradicts itself raises a ``ValueError`` that names the field.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attention.configs import gguf, gguf_header, parameter_rules, params_file, registry
from attention.configs.adapter import Adapter
from attention.configs.families.ordinary import check_windows
from attention.configs.fields import Reader
from attention.configs.hf_classes import class_defaults
from attention.configs.names import CONTEXT, HEADS, LAYERS, MAX_LAYERS, WIDTH, check_fields
from attention.configs.parts import decoder_part
from attention.errors import shown
from attention.files import ordinary
from attention.parameters import Parameters
from attention.spec import ModelSpec, check_size

TIED = "tie_word_embeddings"
MAX_BYTES = 8_000_000
"""Largest file accepted. Published files that list every unquantised module reach 3.1 MB."""
MAX_DEPTH = 32
MAX_VALUES = 500_000

DTYPES = {
    "float32": "fp32",
    "float": "fp32",
    "fp32": "fp32",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp16": "fp16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


def load_config(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """Read a config.json from a path or from its bytes, or the header of a GGUF file from a path that ends in .gguf.

    A config.json must be UTF-8 of at most 8 MB, with an object at the top, no duplicate keys and bounded nesting.
    Python's JSON reader is used because published files hold the bare token ``Infinity`` (Nemotron-H).

    Raises:
        ValueError: unreadable, too large, or not such a file.
    """
    if isinstance(source, bytes):
        data = source
    elif Path(source).suffix == gguf_header.SUFFIX:
        return gguf.load(source)
    else:
        try:
            with ordinary(Path(source)).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(source)[:300]!r} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None
    if data[:4] == gguf_header.MAGIC:
        raise ValueError("a config.json must be UTF-8 text, and this is a GGUF file: its header is read on the command "
                         "line alone, from a path that ends in .gguf")  # fmt: skip
    if len(data) > MAX_BYTES:
        raise ValueError(f"a config.json may have at most {MAX_BYTES:,} bytes, got more")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"a config.json must be UTF-8 text: {error.reason} at byte {error.start}") from None
    _check_nesting(text)
    try:
        config = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"this config.json is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise ValueError(f"a config.json may be nested at most {MAX_DEPTH} deep, got more") from None
    except ValueError as error:  # duplicate keys, or a number with more digits than Python converts
        raise ValueError(f"not a usable config.json: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"a config.json must hold an object at the top, got {type(config).__name__}")
    return config


_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
"""Matches a whole JSON string, which may hold brackets, or a bracket outside strings. The pattern never backtracks."""


def _check_nesting(text: str) -> None:
    """Refuse nesting that is too deep, before the parser recurses into it."""
    depth = 0
    for mark in _MARKS.finditer(text):
        if mark[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"a config.json may be nested at most {MAX_DEPTH} deep, got more")
        elif mark[0] in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {shown(key)} occurs twice")
        out[key] = value
    return out


def _check_shape(config: Mapping[str, Any]) -> None:
    """Refuse a dictionary that is too deep, has too many values, or has keys that are not text.

    It may come from elsewhere than `load_config`.
    """
    stack: list[tuple[Any, int]] = [(config, 1)]
    seen = 0
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"a configuration may be nested at most {MAX_DEPTH} deep, got more")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"keys of a configuration must be text, got {shown(key)}")
            children = list(value.values())
        elif isinstance(value, list | tuple):
            children = list(value)
        else:
            continue
        seen += len(children)
        if seen > MAX_VALUES:
            raise ValueError(f"a configuration may hold at most {MAX_VALUES:,} values, got more")
        stack.extend((child, depth + 1) for child in children)


def spec_from_config(config: Mapping[str, Any], name: str = "config.json") -> ModelSpec:
    """What a model with this configuration keeps per sequence, layer by layer.

    Args:
        config: a published config.json as a dictionary (see `load_config`).
        name: what to call the model.

    Raises:
        ValueError: a field is missing, wrong or contradictory, or the type is refused; the message names the field or
            gives the reason.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a configuration must be an object, got {type(config).__name__}")
    _check_shape(config)
    part, prefix, model_type = decoder_part(config)
    adapter = registry.find(model_type)
    raw = check_fields(part, stated_layers(part, prefix), prefix, model_type)
    if raw.get("per_layer_config") and not adapter.by_layer:
        raise ValueError(
            f"{prefix}per_layer_config is stated: layers of {model_type} that differ are not described here"
        )
    if adapter.prepare is not None:
        raw = adapter.prepare(raw)
    reader = Reader(model_type, raw, prefix)
    if params_file.is_params(config):
        reader.note(params_file.NOTE)
    elif gguf.is_header(config):
        for note in gguf.notes(part):
            reader.note(note)
    if adapter.uses_class:
        reader.defaults = _defaults(adapter, reader)
    try:
        layers = adapter.read(reader)
        if adapter.oracle_type(model_type) is not None:
            check_windows(reader, layers)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, RuntimeError) as error:
        # a class default has an unexpected type, so the file cannot be read
        raise ValueError(f"{model_type}: the fields do not fit together ({type(error).__name__}: {error})") from error
    _note_quantised_cache(config, part, reader)
    spec = ModelSpec(
        name,
        tuple(layers),
        model_dtype=_dtype(part, prefix) or _dtype(config, ""),
        hidden_size=_optional(reader, WIDTH),
        max_context=_max_context(reader),
        model_type=model_type,
        notes=tuple(reader.notes),
    )
    return _with_parameters(spec, config, part, reader)


def _with_parameters(spec: ModelSpec, config: Mapping[str, Any], part: Mapping[str, Any], reader: Reader) -> ModelSpec:
    """The model with its parameters, where arithmetic gives them.

    A missing or wrong size is only noted, because the cache does not depend on it.
    """
    stated = {**part, TIED: next((w[TIED] for w in (part, config) if isinstance(w.get(TIED), bool)), None)}
    try:
        if gguf.is_header(config):
            found = gguf.parameters(config, spec.n_layers)
        else:
            found = parameter_rules.count(spec, stated, reader.defaults)
    except ValueError as problem:
        return replace(spec, notes=(*spec.notes, f"parameters not counted: {problem}"))
    return spec if found is None else with_parameters(spec, found)


def with_parameters(spec: ModelSpec, found: Parameters) -> ModelSpec:
    """The model with the counted parameters `found`."""
    return replace(
        spec, weights=found, n_parameters=found.total, n_active_parameters=found.active if found.routed else None
    )


def _defaults(adapter: Adapter, reader: Reader) -> Any:
    """transformers' configuration object for the file.

    Where the class refuses the file, the adapter reads it first, because its own message names the field.
    """
    model_type = adapter.class_type or reader.model_type
    try:
        return class_defaults(model_type, reader.raw, reader.prefix)
    except ValueError:
        with contextlib.suppress(ArithmeticError, AttributeError, IndexError, KeyError, TypeError, RuntimeError):
            try:
                defaults = class_defaults(model_type, _heads_alone(reader.raw), "")
            except ValueError:  # the class refuses sizes that the file does not state
                defaults = class_defaults(model_type, {}, "")
            adapter.read(replace(reader, defaults=defaults, notes=[]))
        raise


def _heads_alone(raw: Mapping[str, Any]) -> dict[str, int]:
    """The stated number of query heads and a width that it divides: the class can derive K/V heads from them."""
    heads = next((raw[name] for name in HEADS if isinstance(raw.get(name), int)), None)
    return {} if heads is None else {HEADS[0]: heads, WIDTH[0]: heads * 128}


def stated_layers(part: Mapping[str, Any], prefix: str) -> int | None:
    """The stated number of layers, to which per-layer lists are cut; None if the file does not state it.

    Raises:
        ValueError: out of range.
    """
    for name in LAYERS:
        if part.get(name) is not None:
            return check_size(prefix + name, part[name], 1, MAX_LAYERS)
    return None


def _dtype(part: Mapping[str, Any], prefix: str) -> str | None:
    for name in ("dtype", "torch_dtype", "model_dtype"):  # VILA's files have the last name
        value = part.get(name)
        if value is None or value == "auto":  # "auto" is the weights' own dtype, which the file does not state
            continue
        if not isinstance(value, str) or value.removeprefix("torch.") not in DTYPES:
            raise ValueError(f"{prefix}{name} must be one of {', '.join(DTYPES)}, got {shown(value)}")
        return DTYPES[value.removeprefix("torch.")]
    return None


def _optional(reader: Reader, names: tuple[str, ...]) -> int | None:
    value = reader.stated(*names)
    if value is None and reader.nested:
        value = next((v for v in map(reader.default, names) if isinstance(v, int)), None)
    return value


def _max_context(reader: Reader) -> int | None:
    """The longest context that the file allows, in tokens: the largest of the stated fields.

    Command-R states 8,192 positions and a model_max_length of 131,072.
    """
    values = [reader.raw[n] for n in CONTEXT if reader.raw.get(n) is not None]
    if not values and reader.nested:
        values = [v for v in (reader.default(n) for n in CONTEXT) if isinstance(v, int)]
    return max(values, default=None)


def _note_quantised_cache(config: Mapping[str, Any], part: Mapping[str, Any], reader: Reader) -> None:
    """Note a quantised cache. quantization_config is about weights, unless it names a scheme for the cache."""
    for where in (part, config):
        quantised = where.get("quantization_config")
        if not isinstance(quantised, Mapping):
            continue
        for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
            if quantised.get(key) is not None:
                reader.note(
                    f"quantization_config.{key} is stated: the cache is meant to be quantised, choose that format"
                )
                return
