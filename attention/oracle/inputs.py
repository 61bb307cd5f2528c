"""What a model's forward pass is given so that its cache holds a context, and the whole that a part is built into."""

from __future__ import annotations

import inspect
from typing import Any

WHOLES = {"t5_gemma_module": "t5gemma", "t5gemma2_decoder": "t5gemma2"}
"""Decoders that transformers builds within an encoder-decoder only."""


def whole(settings: Any) -> Any:
    """The configuration that is built: the model's own, or an encoder-decoder around it whose encoder, which keeps
    nothing, has one layer of the decoder's sizes."""
    from transformers import AutoConfig

    if settings.model_type not in WHOLES:
        return settings
    decoder = {name: value for name, value in settings.to_dict().items() if name != "model_type"}
    encoder: dict[str, Any] = {**decoder, "num_hidden_layers": 1, "layer_types": decoder["layer_types"][:1]}
    if settings.model_type == "t5gemma2_decoder":
        encoder = {"text_config": encoder}
    return AutoConfig.for_model(WHOLES[settings.model_type], encoder=encoder, decoder=decoder)


def encoder_decoder_class(settings: Any) -> Any:
    """The automatic class that builds an encoder-decoder, by what its source is.

    Raises:
        LookupError: none does.
    """
    from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

    for auto in (AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, AutoModelForImageTextToText):
        if type(settings) in auto._model_mapping:
            return auto
    raise LookupError("it cannot be built alone")


def forward_arguments(model: Any, settings: Any, context: int, batch: int) -> dict[str, Any]:
    """Arguments of a forward pass over `context` tokens with a cache. An encoder-decoder gets what its encoder, which
    keeps nothing, would give for a source of as many positions; Whisper's always gives the same number."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    tokens = torch.zeros(batch, context, dtype=torch.long)
    if settings.model_type == "trocr":  # the decoder alone: its encoder is another model
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
