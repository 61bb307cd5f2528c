"""The arguments of a forward pass that fills a model's cache, and the encoder-decoder in which a lone decoder is
built."""

from __future__ import annotations

import inspect
from typing import Any

WHOLES = {"t5_gemma_module": "t5gemma", "t5gemma2_decoder": "t5gemma2"}
"""Decoders that transformers only builds inside an encoder-decoder, with the type of that."""


def whole(settings: Any) -> Any:
    """The configuration that is built: the model's own, or an encoder-decoder around it.

    The encoder of the latter has one layer with the decoder's sizes. It keeps nothing in the cache.
    """
    from transformers import AutoConfig

    if settings.model_type not in WHOLES:
        return settings
    decoder = {name: value for name, value in settings.to_dict().items() if name != "model_type"}
    encoder: dict[str, Any] = {**decoder, "num_hidden_layers": 1, "layer_types": decoder["layer_types"][:1]}
    if settings.model_type == "t5gemma2_decoder":
        encoder = {"text_config": encoder}
    return AutoConfig.for_model(WHOLES[settings.model_type], encoder=encoder, decoder=decoder)


def encoder_decoder_class(settings: Any) -> Any:
    """transformers' automatic class that builds an encoder-decoder; it depends on the kind of source.

    Raises:
        LookupError: no such class builds it.
    """
    from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

    for auto in (AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, AutoModelForImageTextToText):
        if type(settings) in auto._model_mapping:
            return auto
    raise LookupError("it cannot be built alone")


def forward_arguments(model: Any, settings: Any, context: int, batch: int) -> dict[str, Any]:
    """Arguments of a forward pass over `context` tokens with a cache.

    An encoder-decoder gets the output that its encoder would give for a source of `context` positions; Whisper's
    encoder always gives the same number of positions.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    tokens = torch.zeros(batch, context, dtype=torch.long)
    if settings.model_type == "trocr":  # it is a decoder alone, whose encoder is another model
        width = settings.cross_attention_hidden_size or settings.d_model
        source = torch.zeros(batch, context, width, dtype=model.dtype)
        return {"use_cache": True, "input_ids": tokens, "encoder_hidden_states": source}
    if settings.is_encoder_decoder:
        own = getattr(settings, "decoder", settings)
        positions = own.max_source_positions if settings.model_type == "whisper" else context
        source = torch.zeros(batch, positions, own.hidden_size, dtype=model.dtype)
        return {
            "use_cache": True,
            "decoder_input_ids": tokens,
            "encoder_outputs": BaseModelOutput(last_hidden_state=source),
        }
    given: dict[str, Any] = {"use_cache": True, "input_ids": tokens}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        given["logits_to_keep"] = 1
    return given
