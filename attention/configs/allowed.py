"""Which fields of a visitor's file may reach a transformers configuration class from which a model is built.

A class accepts and keeps any name, and some names control the modelling code: `attn_implementation` can name a
repository whose kernels are then fetched and run. So a name passes only if the class has a field of that name, or if
the code of the class or of its model mentions it (as it does for names in older files).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROPE = frozenset(("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rotary_pct", "rotary_dim"))
"""Fields of position encodings that the base class reads, with their older names."""
TOKENS = frozenset(("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "is_encoder_decoder"))
CACHE = frozenset(("sliding_window", "attention_chunk_size", "layer_types", "num_kv_shared_layers"))
"""Fields that transformers' caches read from every configuration, even where its class does not have them."""
NEVER = frozenset(
    ("attn_implementation", "experts_implementation", "auto_map", "quantization_config", "compression_config",
     "architectures", "dtype", "torch_dtype", "transformers_version", "model_type", "name_or_path")
)  # fmt: skip
"""Fields that choose code and not an architecture. They are dropped at every level of a file."""


@cache
def names(configuration: type[Any]) -> frozenset[str]:
    """The names of fields that pass for a configuration class."""
    from transformers import PretrainedConfig

    known = set(getattr(configuration, "__dataclass_fields__", {})) - set(PretrainedConfig.__dataclass_fields__)
    known |= set(configuration.attribute_map)
    for base in configuration.__mro__:
        if base.__module__.startswith("transformers.models."):
            known |= set(re.findall(r"""["']([a-z][a-z0-9_]*)["']""", inspect.getsource(base)))
            modelling = Path(inspect.getfile(base).replace("configuration_", "modeling_"))
            if modelling.is_file():
                asked = re.findall(r"""config\.([a-z]\w*)|config, ?["']([a-z]\w*)""", modelling.read_text())
                known |= {name for pair in asked for name in pair if name}
    return frozenset(known | ROPE | TOKENS | CACHE) - NEVER


def allowed(fields: Mapping[str, Any], configuration: type) -> dict[str, Any]:
    """The fields of a file that pass; see the module's docstring."""
    return {name: _clean(value) for name, value in fields.items() if name in names(configuration)}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _clean(item)
            for name, item in value.items()
            if isinstance(name, str) and name not in NEVER and not name.startswith("_")
        }
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
