"""transformers' configuration classes as a source of aliases, defaults and derived per-layer lists.

transformers is imported when first needed: reading a configuration needs it, the catalogue's pages do not.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from attention.adapters.fields import HEADS, LAYERS, WIDTH


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice about fields that do not concern us off the console."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def known_types() -> frozenset[str]:
    """Every model_type that transformers has a configuration class for."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return frozenset(CONFIG_MAPPING_NAMES)


def class_defaults(model_type: str, raw: Mapping[str, Any], prefix: str) -> Any:
    """transformers' configuration object for `raw`.

    Raises:
        ValueError: transformers' own checks refuse the fields.
    """
    from transformers import AutoConfig

    given = {name: value for name, value in raw.items() if value is not None or name in _NULL_MEANS}
    try:
        with quiet():
            blank = AutoConfig.for_model(model_type)
            canonical = _canonical(given, blank)
            made = AutoConfig.for_model(model_type, **canonical)
    except Exception as error:  # whatever a class's checks raise, it is the file that does not fit
        raise ValueError(f"{prefix or 'the file'}: transformers' {model_type} refuses it: {_one_line(error)}") from None
    for names in (LAYERS, HEADS):
        stated = next((raw[n] for n in names if raw.get(n) is not None), None)
        seen = getattr(made, names[0], None)
        if stated is not None and isinstance(seen, int) and seen != stated and not isinstance(seen, bool):
            # LongCat's layers hold two attention blocks each; its adapter counts them
            if model_type != "longcat_flash" or names is not LAYERS:
                raise ValueError(f"{prefix}{names[0]}: stated {stated}, but {model_type} would build {seen}")
    return made


_NULL_MEANS = frozenset(("num_key_value_heads", "sliding_window", "head_dim", "layer_types", "mamba_d_ssm"))
"""Fields whose null differs from being absent."""


def _canonical(given: dict[str, Any], blank: Any) -> dict[str, Any]:
    """`given` under the names the class knows: an alias that it does not know would be ignored silently."""
    out = dict(given)
    for names in (LAYERS, HEADS, WIDTH):
        value = next((given[n] for n in names if given.get(n) is not None), None)
        if value is None:
            continue
        for name in names:
            out.pop(name, None)
        own = blank.attribute_map.get(names[0], names[0])
        out[own if hasattr(blank, own) else names[0]] = value
    return out


def nested_model_type(parent_type: str | None, part: str) -> str | None:
    """The type of a composite model's decoder when its part of the file leaves model_type out."""
    if parent_type is None or parent_type not in known_types():
        return None
    from transformers import AutoConfig

    try:
        with quiet():
            decoder = getattr(AutoConfig.for_model(parent_type), part, None)
    except Exception:  # a class that cannot be made from its defaults has none to offer
        return None
    return getattr(decoder, "model_type", None) or None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "…"
