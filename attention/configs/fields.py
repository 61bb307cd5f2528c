"""Reading the fields of a config.json that decide its cache: strict about types, open about defaults.

Only fields named here are ever looked at. Everything else in a file (rope scaling, token ids, quantisation of
the weights, the vision tower …) cannot change the size of the cache and cannot make a file unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NoReturn

from attention.errors import shown
from attention.spec import MAX_SIZE, check_size

MAX_LAYERS = 10_000
"""Most layers accepted; the deepest published decoders have a few hundred."""

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
WIDTH = ("hidden_size", "n_embd", "n_embed", "d_model")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "kv_n_heads")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "n_ctx",
)

POSITIVE = frozenset(
    (
        *LAYERS,
        *HEADS,
        *WIDTH,
        *KV_HEADS,
        *CONTEXT,
        *(
            "num_decoder_layers",
            "num_transformer_layers",
            "decoder_layers",
            "decoder_attention_heads",
            "head_dim",
            "kv_channels",
            "d_kv",
            "attention_head_dim",
        ),
        *("multi_query_group_num", "num_query_groups", "num_attention_groups", "global_head_dim"),
        *("num_global_key_value_heads", "swa_num_key_value_heads", "swa_num_attention_heads", "swa_head_dim"),
        *("swa_v_head_dim", "num_attn_heads_swa", "num_swa_attention_heads", "num_swa_key_value_heads"),
        *("num_sliding_attention_heads", "sliding_window_size", "attention_window_size", "window_size"),
        *("index_head_dim", "index_topk", "attention_chunk_size", "local_attention"),
        *("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
        *("linear_conv_kernel_dim", "linear_num_heads", "linear_head_dim", "short_conv_kernel_size"),
        *("full_attention_interval", "attn_layer_period", "layer_group_size", "conv_L_cache"),
        *("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "mamba_head_dim", "mamba_headdim"),
        *("mamba_n_groups", "mamba_ngroups", "n_groups", "ssm_state_size", "mamba_d_state", "state_size"),
        *("mamba_expand", "mamba_d_ssm", "mamba_d_conv", "conv_kernel", "expand", "conv1d_width", "lru_width"),
        *(
            "cla_share_factor",
            "num_experts_per_tok",
            "sparse_index_dim",
            "index_topk_blocks",
            "index_block_size",
            "sparse_topk_blocks",
            "sparse_block_size",
            "n_shared_head",
            "intermediate_size",
            "compress_rate_csa",
            "compress_rate_hca",
        ),
    )
)
"""Whole numbers of at least 1 (null counts as absent)."""

NATURAL = frozenset(
    (
        *("kv_lora_rank", "q_lora_rank", "sliding_window", "max_window_layers", "num_kv_shared_layers"),
        *("attn_layer_offset", "num_nextn_predict_layers", "no_rope_layer_interval"),
        *("index_topk_freq", "index_skip_topk_offset", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"),
        # Cohere 2 MoE: the layers before the first mixture have windows of another pattern
        *("first_k_dense_replace", "prefix_dense_sliding_window_pattern"),
    )
)
"""Whole numbers of at least 0."""

FLAGS = frozenset(
    (
        *("multi_query", "new_decoder_architecture", "multi_query_attention", "use_sliding_window"),
        *("attention_k_eq_v", "is_encoder_decoder", "use_mla", "use_cla", "is_decoder", "add_cross_attention"),
    )
)
TEXTS = frozenset(("hybrid_override_pattern", "attention_head_type"))
PER_LAYER = frozenset(
    (
        *("layer_types", "layers_block_type", "attn_type_list", "no_rope_layers", "compress_ratios"),
        *("hybrid_layer_pattern", "indexer_types", "block_configs", "num_key_value_heads_per_layer"),
        *("attention_layers", "num_attention_heads_per_layer", "sparse_attention_layers", "kv_source_layers"),
    )
)
"""Lists with one entry per layer; longer ones (next-token-prediction layers at the end) are cut."""
LISTS = frozenset(
    (
        *("full_attn_idxs", "sliding_window_layers", "block_types", "_block_types", "attention_types"),
        *("attn_layer_indices", "hybrid_layer_ids", "cross_attention_layers", "kda_layers", "full_attn_layers"),
        *("num_query_heads",),
    )
)
MAPS = frozenset(
    ("attn_config", "linear_attn_config", "attention_other_setting", "sparse_attention_config", "compress_rates")
)
MIXED = frozenset(
    (
        "sliding_window_pattern",
        "global_attn_every_n_layers",
        "_sliding_window_pattern",
        "mamba_d_head",
        "index_topk_pattern",
    )
)
"""Whole number in some files, text in others ("LLLG", "auto")."""


def whole(label: str, value: Any, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """`check_size` with a message that stays short whatever the value."""
    if not isinstance(value, int) or abs(value) > 2**64:
        raise ValueError(f"{label} must be a whole number up to {maximum:,}, got {shown(value)}")
    return check_size(label, value, minimum, maximum)


def check_fields(raw: Mapping[str, Any], n_layers: int | None, prefix: str, model_type: str) -> dict[str, Any]:
    """The fields of `raw` named above, each of its right type; per-layer lists cut to `n_layers`.

    Raises:
        ValueError: naming the field, its value and what is accepted.
    """
    out: dict[str, Any] = {}
    for name, value in raw.items():
        if value is None:
            if name in POSITIVE or name in NATURAL or name in PER_LAYER or name in LISTS:
                out[name] = None
            elif name in FLAGS:
                out[name] = False  # what null is to the code that asks; the class's default need not be that
            continue
        label = prefix + name
        if name == "intermediate_size" and model_type not in ("mamba", "falcon_mamba"):
            continue  # weights only, and a list in some families
        if name in MIXED:
            out[name] = value if isinstance(value, str) and len(value) <= MAX_LAYERS else whole(label, value)
        elif name in POSITIVE and not (name in KV_HEADS and isinstance(value, list)):
            limit = MAX_LAYERS if name.endswith("layers") or name in LAYERS else MAX_SIZE
            out[name] = whole(label, value, 1, limit)
        elif name in NATURAL:
            out[name] = whole(label, value, 0)
        elif name in FLAGS:
            if not isinstance(value, bool):
                raise ValueError(f"{label} must be true or false, got {value!r}")
            out[name] = value
        elif name in TEXTS:
            if not isinstance(value, str) or len(value) > 2 * MAX_LAYERS:
                raise ValueError(f"{label} must be a short text, got {shown(value)}")
            out[name] = value
        elif name in PER_LAYER or name in LISTS or name in KV_HEADS or name == "num_query_heads":
            out[name] = _check_list(label, value, n_layers if name in PER_LAYER else None)
        elif name in MAPS:
            if not isinstance(value, Mapping):
                raise ValueError(f"{label} must be an object, got {shown(value)}")
            out[name] = dict(value)
    return out


def _check_list(label: str, value: Any, n_layers: int | None) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{label} must be a list, got {shown(value)}")
    if len(value) > 2 * MAX_LAYERS:
        raise ValueError(f"{label} must have at most {2 * MAX_LAYERS:,} entries, got {len(value):,}")
    if n_layers is None or not value:
        return list(value)
    if len(value) < n_layers:
        raise ValueError(f"{label} must have an entry for each of the {n_layers} layers, got {len(value)}")
    return list(value[:n_layers])


_MISSING = object()


@dataclass
class Reader:
    """The decoder's part of a config.json, with the class defaults of its architecture behind it.

    Attributes:
        model_type: of the decoder.
        raw: its stated fields, types checked (see `check_fields`).
        prefix: where they stand in the file, e.g. "text_config.".
        defaults: transformers' configuration object made from `raw`, or None for a type it does not know.
        notes: what a reader of the result must know; grows while adapters read.
    """

    model_type: str
    raw: dict[str, Any]
    prefix: str = ""
    defaults: Any = None
    notes: list[str] = field(default_factory=list)

    @property
    def nested(self) -> bool:
        return bool(self.prefix)

    def refuse(self, name: str, why: str) -> NoReturn:
        raise ValueError(f"{self.prefix}{name} {why}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def stated(self, *names: str) -> Any:
        """The value that the file states under any of `names`, None if it states none.

        Raises:
            ValueError: two of the names are stated with different values.
        """
        hits = [(name, self.raw[name]) for name in self.spellings(names) if self.raw.get(name) is not None]
        for name, value in hits[1:]:
            if value != hits[0][1]:
                self.refuse(name, f"= {shown(value)} contradicts {hits[0][0]} = {shown(hits[0][1])}")
        return hits[0][1] if hits else None

    def spellings(self, names: Sequence[str]) -> tuple[str, ...]:
        """`names`, and what the class calls the same fields: JetMoE's head_dim is kv_channels, T5's is d_kv."""
        aliases = getattr(self.defaults, "attribute_map", {})
        own = (aliases[name] for name in names if name in aliases)
        others = (alias for alias, name in aliases.items() if name in names)
        return tuple(dict.fromkeys((*names, *own, *others)))

    def default(self, name: str) -> Any:
        """The value the architecture's class has for `name` (after its own derivations), None without one."""
        try:
            return getattr(self.defaults, name, None)
        except Exception:  # heterogeneous configurations refuse global reads; the adapters read them per layer
            return None

    def class_default(self, name: str) -> Any:
        """What the class writes for `name`, or its own name of that, when a file is silent, before any derivation."""
        if self.defaults is None or not is_dataclass(self.defaults):
            return None
        name = self._own_name(name)
        for item in fields(self.defaults):
            if item.name == name:
                return item.default
        return None

    def _own_name(self, name: str) -> str:
        """The class's own field for an alias: JetMoe's head_dim is its kv_channels."""
        return str(getattr(self.defaults, "attribute_map", {}).get(name, name))

    def value(self, *names: str, default: Any = _MISSING) -> Any:
        """Stated value, else class default (which is noted), else `default`, else a refusal."""
        hit = self.stated(*names)
        if hit is not None:
            return hit
        for name in names:
            value = self.default(name)
            if value is not None:
                self.note(
                    f"{self.prefix}{name} is not stated; {self.model_type}'s class default {shown(value)} is used"
                )
                return value
        if default is not _MISSING:
            return default
        self.refuse(names[0], f"is missing ({self.model_type} has no default for it)")

    def size(self, *names: str, minimum: int = 1, default: Any = _MISSING) -> int:
        """A whole number, see `value`."""
        return check_size(self.prefix + names[0], self.value(*names, default=default), minimum)

    def essential(self, what: str, names: Sequence[str]) -> int:
        """A size that a file must state itself, unless it is nested in a composite model's file, where published
        files leave class defaults out (gemma-3-4b-it states neither heads nor K/V heads)."""
        value = self.stated(*names)
        if value is not None:
            return check_size(self.prefix + names[0], value)
        if self.nested:
            return self.size(*names)
        self.refuse(names[0], f"is missing: the file does not state {what}")

    # the four numbers every adapter needs

    @property
    def n_layers(self) -> int:
        return check_size(self.prefix + LAYERS[0], self.essential("the number of layers", LAYERS), 1, MAX_LAYERS)

    @property
    def n_heads(self) -> int:
        return self.essential("the number of query heads", HEADS)

    def n_kv_heads(self, *names: str, absent: int | None = None) -> int:
        """K/V heads: stated; else the class's own rule; else `absent` (the rule of a type without a class)."""
        stated = self.stated(*(names or KV_HEADS))
        heads = self.n_heads
        if stated is None:
            stated = self._unstated_kv_heads(heads, absent, (names or KV_HEADS)[0])
        if isinstance(stated, list):
            self.refuse((names or KV_HEADS)[0], f"must be a whole number, got {shown(stated)}")
        value = check_size(self.prefix + (names or KV_HEADS)[0], stated)
        for name in () if names or self.defaults is None else KV_HEADS[1:]:
            if (
                self.raw.get(name) is not None
                and self.raw.get(KV_HEADS[0]) is None
                and not hasattr(type(self.defaults), name)
            ):
                self.refuse(
                    name, f"= {shown(self.raw[name])} is not read by {self.model_type}'s code; state {KV_HEADS[0]}"
                )
        if heads % value:
            self.refuse((names or KV_HEADS)[0], f"= {value} does not divide num_attention_heads = {heads}")
        return value

    def _unstated_kv_heads(self, heads: int, absent: int | None, name: str) -> int:
        if self.defaults is not None:
            known = self.default("num_key_value_heads")
            if known is None and name not in self.raw:  # differs from layer to layer, or has no default
                known = self.class_default("num_key_value_heads")
            if known is None:  # the class has no such field, or null: every query head has its own
                return heads
            if name not in self.raw and self.class_default("num_key_value_heads") is not None:
                self.note(f"{self.prefix}{name} is not stated; {self.model_type}'s class default {known!r} is used")
            return int(known)
        if absent is not None:
            return absent
        self.refuse(name, f"is missing ({self.model_type} has no default for it)")

    def head_dim(self, *names: str) -> int:
        """Size of a head: stated; else the class default where it is a number (a stated null is none); else width
        over query heads."""
        names = names or ("head_dim",)
        stated = self.stated(*names)
        if stated is not None:
            return check_size(self.prefix + names[0], stated)
        # null is not silence: the class then works the size out, if it can
        fixed = self.default(names[0]) if names[0] in self.raw else self.class_default(names[0])
        if isinstance(fixed, int) and not isinstance(fixed, bool) and fixed > 0:
            self.note(f"{self.prefix}{names[0]} is not stated; {self.model_type}'s class default {fixed} is used")
            return fixed
        return self.even_head_dim(names[0])

    def even_head_dim(self, name: str = "head_dim") -> int:
        """Width over query heads, whatever the file says: some families' code looks at nothing else."""
        width, heads = self.width, self.n_heads
        if width % heads:
            missing = "is missing" if self.raw.get(name) is None else f"is not read by {self.model_type}'s code"
            self.refuse(name, f"{missing}, and hidden_size = {width} is not a multiple of {heads} query heads")
        stated = self.raw.get(name)
        if stated is not None and stated != width // heads:
            self.note(
                f"{self.prefix}{name} = {shown(stated)} is stated, but {self.model_type}'s code takes "
                f"hidden_size / query heads = {width // heads}, as counted here"
            )
        return width // heads

    @property
    def width(self) -> int:
        return self.essential("the width", WIDTH)

    def per_layer(self, name: str, n_layers: int) -> list[Any] | None:
        """A per-layer list from the class's derivations or the file, None if neither has one."""
        value = self.default(name)
        if value is None:
            value = self.raw.get(name)
        if value is None or len(value) == 0:
            return None
        return _check_list(self.prefix + name, value, n_layers)

    def window(self, *names: str) -> int:
        """The window of a sliding layer, at least 1."""
        return self.size(*(names or ("sliding_window",)))
