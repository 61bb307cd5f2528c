"""The adapter of each ``model_type``.

`find` returns the adapter of a type, or raises a ``ValueError`` with the reason (an unknown type, an encoder, remote
code that is not described here).
"""

from __future__ import annotations

from attention.configs.adapter import Adapter
from attention.configs.families import (
    by_layer,
    convolved,
    described,
    hybrid,
    indexed,
    latent,
    ordinary,
    seq2seq,
    windowed,
)
from attention.configs.hf_classes import composite_default, known_types, text_generators
from attention.configs.refused import REFUSED
from attention.errors import shown

ADAPTERS: dict[str, Adapter] = {
    **ordinary.ADAPTERS,
    **windowed.ADAPTERS,
    **latent.ADAPTERS,
    **hybrid.ADAPTERS,
    **indexed.ADAPTERS,
    **convolved.ADAPTERS,
    **described.ADAPTERS,
    **seq2seq.ADAPTERS,
    **by_layer.ADAPTERS,
}


def find(model_type: str) -> Adapter:
    """The adapter of `model_type`.

    Raises:
        ValueError: the cache of this type is not described here; the message says why.
    """
    adapter = ADAPTERS.get(model_type)
    if adapter is not None:
        return adapter
    if model_type in REFUSED:
        raise ValueError(f"model_type {shown(model_type)} is refused: {REFUSED[model_type]}")
    known = known_types()
    if model_type in known and composite_default(model_type, "text_config") is not None:
        raise ValueError(f"text_config is missing: the decoder of a {model_type} model is described there")
    if model_type in known and model_type not in text_generators():
        raise ValueError(
            f"model_type {shown(model_type)} is refused: transformers has no model of this type that writes text"
        )
    raise ValueError(
        f"model_type {shown(model_type)} is not known: how it caches is not described here, and a guess could be wrong"
    )
