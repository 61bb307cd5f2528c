"""Aliases, defaults and derived per-layer lists from transformers' configuration classes.

transformers is imported when it is first needed: reading a configuration needs it, the catalogue's pages do not.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from attention.configs.allowed import allowed
from attention.configs.names import HEADS, KV_HEADS, LAYERS, WIDTH
from attention.errors import ContradictionError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings about fields that are not used here off the console."""
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


@cache
def text_generators() -> frozenset[str]:
    """Every model_type that transformers can build to write text: as a causal language model, as an encoder-decoder, or
    as a model that also reads images or speech."""
    from transformers.models.auto import modeling_auto as auto

    return frozenset(
        (
            *auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            *auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
            *auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        )
    )


def _check_aliases(raw: Mapping[str, Any], blank: Any, prefix: str) -> None:
    for alias, name in blank.attribute_map.items():
        one, other = raw.get(alias), raw.get(name)
        if alias in raw and name in raw and one != other:
            raise ContradictionError(
                f"{prefix}{alias} = {str(one)[:40]} contradicts {name} = {str(other)[:40]}, which is the same field"
            )


def class_defaults(model_type: str, raw: Mapping[str, Any], prefix: str) -> Any:
    """transformers' configuration object for the checked fields `raw`.

    Raises:
        ValueError: transformers refuses the fields, two of them contradict each other, or the object has another
            number of layers or query heads than the file states.
    """
    from transformers import AutoConfig

    given = {name: value for name, value in raw.items() if value is not None or name in _NULL_MEANS}
    try:
        with quiet():
            blank = AutoConfig.for_model(model_type)
            _check_aliases(raw, blank, prefix)
            canonical = _canonical(_even_width(given), blank)
            made = AutoConfig.for_model(model_type, **canonical)
    except ContradictionError:
        raise
    except Exception as error:  # whatever the class raises, the cause is the file
        raise ValueError(f"{prefix or 'the file'}: transformers' {model_type} refuses it: {_one_line(error)}") from None
    for names in (LAYERS, HEADS):
        stated = next((raw[n] for n in names if raw.get(n) is not None), None)
        try:
            seen = getattr(made, names[0], None)
        except RuntimeError:  # it differs from layer to layer
            continue
        # LongCat's layers hold two attention blocks each, HRM's stacks run several times; their adapters count them
        counts_otherwise = model_type in ("longcat_flash", "hrm_text") and names is LAYERS
        if stated is not None and isinstance(seen, int) and seen != stated and not counts_otherwise:
            raise ValueError(f"{prefix}{names[0]}: stated {stated}, but {model_type} would build {seen}")
    return made


def config_object(model_type: str, fields: Mapping[str, Any], prefix: str) -> Any:
    """transformers' configuration object for a whole file, as its modelling code needs it.

    Raises:
        ValueError: transformers refuses the file.
    """
    from transformers import AutoConfig

    try:
        with quiet():
            blank = AutoConfig.for_model(model_type)
            made = AutoConfig.for_model(model_type, **allowed(_canonical(dict(fields), blank), type(blank)))
    except Exception as error:  # whatever the class raises, the cause is the file
        raise ValueError(f"{prefix or 'the file'}: transformers' {model_type} refuses it: {_one_line(error)}") from None
    return made


_NULL_MEANS = frozenset(("num_key_value_heads", "sliding_window", "head_dim", "layer_types", "mamba_d_ssm"))
"""Fields for which a null does not mean the same as an absent field."""


def _even_width(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with a width that the query heads divide.

    Some classes require such a width, even where a stated head_dim makes it irrelevant. Readers take the width from the
    file.
    """
    heads, width = (next((n for n in names if given.get(n) is not None), None) for names in (HEADS, WIDTH))
    head_dim = given.get("head_dim")
    if heads is None or width is None or head_dim is None or given[width] % given[heads] == 0:
        return given
    return {**given, width: given[heads] * head_dim}


def _canonical(given: dict[str, Any], blank: Any) -> dict[str, Any]:
    """`given` under the names that the class knows: it would silently ignore an alias that it does not know."""
    out = dict(given)
    for names in (LAYERS, HEADS, WIDTH):
        stated = [n for n in names if given.get(n) is not None]
        if not stated:
            continue
        fields = getattr(type(blank), "__dataclass_fields__", {})
        own = next((n for n in stated if n in fields), blank.attribute_map.get(names[0], names[0]))
        for name in names:
            out.pop(name, None)
        out[own] = given[stated[0]]
    return out


def nested_model_type(parent_type: str | None, part: str) -> str | None:
    """The type of a composite model's decoder when its part of the file leaves model_type out."""
    return getattr(composite_default(parent_type, part), "model_type", None) or None


def renamed_type(parent_type: str | None, part: str, stated: str) -> str | None:
    """The type that a composite model's class gives its decoder in place of `stated` (exaone4 for `exaone4_5_text`);
    None where the class does not know `stated`."""
    if parent_type is None or parent_type not in known_types() or stated in known_types():
        return None
    from transformers import AutoConfig

    try:
        with quiet():
            made = AutoConfig.for_model(parent_type, **{part: {"model_type": stated}})
    except Exception:  # it refuses the type
        return None
    return getattr(getattr(made, part, None), "model_type", None)


def flat_type(model_type: str, part: Mapping[str, Any]) -> str | None:
    """The type of the decoder, where a composite model's file describes the decoder at its top level.

    Some models were first published so (GLM-4.1V). None unless the class builds the decoder with the stated sizes.
    """
    stated = {
        names[0]: next((part[n] for n in names if part.get(n) is not None), None)
        for names in (LAYERS, HEADS, KV_HEADS, WIDTH)
    }
    given = {name: value for name, value in stated.items() if isinstance(value, int)}
    if LAYERS[0] not in given or HEADS[0] not in given or composite_default(model_type, "text_config") is None:
        return None
    from transformers import AutoConfig

    try:
        with quiet():
            made = AutoConfig.for_model(model_type, **given).text_config
        agrees = all(getattr(made, name, value) == value for name, value in given.items())
    except Exception:  # it refuses them
        return None
    return str(made.model_type) if agrees else None


@lru_cache(maxsize=512)
def composite_default(model_type: str | None, name: str) -> Any:
    """The value of one field in transformers' default configuration of a type, None if there is none."""
    if model_type is None or model_type not in known_types():
        return None
    from transformers import AutoConfig

    try:
        with quiet():
            return getattr(AutoConfig.for_model(model_type), name, None)
    except Exception:  # a class that cannot be made from its defaults has no default values
        return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "…"
