"""Builds a model from its own code on meta tensors, which have shapes but no weights.

While a model is built, torch's default dtype differs for the whole process: hold ``LOCK``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from attention.configs import registry
from attention.configs.hf_classes import composite_default, config_object
from attention.configs.names import check_fields
from attention.configs.reader import decoder_part, stated_layers
from attention.oracle.inputs import encoder_decoder_class, whole

LOCK = threading.Lock()


def supported(config: Mapping[str, Any]) -> str | None:
    """None if the model's own code can be run; else the reason why not.

    Raises:
        ValueError: the configuration itself is refused.
    """
    part, _, model_type = decoder_part(config)
    adapter = registry.find(model_type)
    if adapter.oracle_type(model_type) is None or adapter.foreign(part):
        return f"transformers has no code of its own for {model_type}, and code that comes with weights is never run"
    return None


def prepared(config: Mapping[str, Any]) -> tuple[str, dict[str, Any], str, bool]:
    """What a model is built from: (type of its code, fields, their prefix in the file, whether its output projection is
    its embedding).

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
    """Whether a model's output projection is its embedding: as stated, else by the class's default."""
    for where in (part, config):
        if isinstance(where.get("tie_word_embeddings"), bool):
            return bool(where["tie_word_embeddings"])
    return composite_default(config.get("model_type"), "tie_word_embeddings") is not False


@contextlib.contextmanager
def on_meta(model_type: str, device: str = "meta") -> Iterator[None]:
    """Create all tensors inside on the meta device (or on `device`), and restore the process-wide settings at the end.

    Raises:
        ValueError: the code inside raised any exception.
    """
    import torch
    import torch.fx.experimental._config

    previous = torch.get_default_dtype()
    validate = torch.distributions.Distribution._validate_args
    shapes = torch.fx.experimental._config
    assume = shapes.meta_nonzero_assume_all_nonzero
    # a router's choice of experts has no values on meta tensors; the cache is the same for any choice
    shapes.meta_nonzero_assume_all_nonzero = True
    # Gemma-3n asks a distribution for a quantile, whose argument check needs values; meta tensors have none
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


def made(model_type: str, fields: dict[str, Any], prefix: str, tied: bool, dtype: str) -> tuple[Any, Any, int]:
    """(model, its settings, its number of parameters). Call it inside :func:`on_meta`."""
    settings = config_object(model_type, fields, prefix)
    _fill_in(settings)
    if (built := whole(settings)).is_encoder_decoder:
        # the other implementations ask whether a mask is all ones, which meta tensors cannot answer
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
    with on_meta(model_type):
        model, settings, _ = made(model_type, fields, prefix, True, "bfloat16")
        return model, settings, model.get_output_embeddings() is not None


def _fill_in(settings: Any) -> None:
    """Replace null by the value that it means, because some of transformers' modelling code fails on null (Nemotron,
    Hunyuan)."""

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

    # bfloat16 has the same size, and the products of experts accept it
    dtype = "bfloat16" if dtype == "float16" else dtype
    model = auto.from_config(settings, dtype=getattr(torch, dtype), **more).eval()
    return model, sum(p.numel() for p in model.parameters())


def _decoder(settings: Any, dtype: str, tied: bool) -> tuple[Any, int]:
    """(language model, its number of parameters). For the decoder of a composite model it is the model without output
    projection, but that projection is counted."""
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
