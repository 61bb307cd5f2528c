"""Finds where a file describes the decoder: at its top level, or in a part of a composite model's file."""

from __future__ import annotations

from collections.abc import Mapping

from attention.configs import gguf, params_file, registry
from attention.configs.hf_classes import flat_type, nested_model_type, renamed_type
from attention.configs.refused import REFUSED
from attention.errors import shown

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "language_model_config", "llm_cfg")
"""Fields in which composite models keep the decoder's configuration, in order of precedence."""
DECODERS = {"t5gemma": "decoder", "t5gemma2": "decoder"}
"""The decoder's field in encoder-decoders that keep the configuration of each side in its own part."""


def decoder_part(config: Mapping[str, object]) -> tuple[Mapping[str, object], str, str]:
    """(the decoder's fields, their prefix in the file, the decoder's model_type) of a plain or composite configuration.

    A GGUF header or a params.json is first rewritten into the names of a config.json.

    Raises:
        ValueError: no model_type, a type that is refused, a part that is not an object, or a header that cannot be
            rewritten.
    """
    if params_file.is_params(config):
        config = params_file.rewritten(config)
    elif gguf.is_header(config):
        config = gguf.rewritten(config)
    part, prefix = config, ""
    model_type = _model_type(config, "model_type")
    if model_type in REFUSED:  # raises, whatever the parts are
        registry.find(model_type)
    for _ in range(4):
        names = (DECODERS[model_type],) if model_type in DECODERS else TEXT_PARTS
        name = next((n for n in names if part.get(n) is not None), None)
        if name is None:
            break
        inner = part[name]
        if not isinstance(inner, Mapping):
            raise ValueError(f"{prefix}{name} must be an object, got {type(inner).__name__}")
        parent_type = model_type
        part, prefix = inner, f"{prefix}{name}."
        stated = _model_type(inner, f"{prefix}model_type")
        model_type = stated or nested_model_type(parent_type, name)
        if stated is not None and stated not in registry.ADAPTERS:
            model_type = renamed_type(parent_type, name, stated) or stated
    if model_type is None:
        raise ValueError(f"{prefix}model_type is missing: without it nobody knows what the file describes")
    if not prefix and model_type not in registry.ADAPTERS:
        model_type = flat_type(model_type, part) or model_type
    return part, prefix, model_type


def _model_type(part: Mapping[str, object], label: str) -> str | None:
    value = part.get("model_type")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 100:
        raise ValueError(f"{label} must be a short text, got {shown(value)}")
    return value
