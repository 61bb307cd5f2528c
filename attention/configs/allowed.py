"""Which fields of a stranger's file are handed to a transformers class that a model is built from.

A class takes any name and keeps it, and some names make the modelling code do things: `attn_implementation` may name a
repository whose kernels are then fetched and run. So a name passes only if the class has a field of that name, or its
own code or its model's asks for it, as they do for names that older files use.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROPE = frozenset(("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rotary_pct", "rotary_dim"))
"""What the base class makes of positions, under its older names too."""
TOKENS = frozenset(("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "is_encoder_decoder"))
CACHE = frozenset(("sliding_window", "attention_chunk_size", "layer_types", "num_kv_shared_layers"))
"""What transformers' caches ask of every configuration, whether its class has such a field or not."""
NEVER = frozenset(
    ("attn_implementation", "experts_implementation", "auto_map", "quantization_config", "compression_config",
     "architectures", "dtype", "torch_dtype", "transformers_version", "model_type", "name_or_path")
)  # fmt: skip
"""What chooses code, not an architecture; also inside the parts of a part."""


@cache
def names(configuration: type[Any]) -> frozenset[str]:
    """Names of fields that a configuration class knows."""
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
    """The fields of a file that pass; see the module."""
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
