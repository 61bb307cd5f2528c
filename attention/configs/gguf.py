"""Rewrites a GGUF header into the names of a config.json, so that the same adapters can read it.

The rules are those of the code that loads such files: ggml-org/llama.cpp, ``load_hparams`` in ``src/llama-model.cpp``
and ``load_arch_hparams`` in ``src/models/*.cpp`` (autumn 2026). Where head_count_kv is absent, there are as many K/V
heads as query heads. Where key_length or value_length is absent, it is embedding_length / head_count. The last
nextn_predict_layers blocks draft tokens and are not layers of the model. For windows see ``gguf_windows``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from attention.configs import gguf_header, gguf_types
from attention.configs.families import by_layer
from attention.configs.families.ordinary import CHUNKED
from attention.configs.gguf_windows import layers as windowed_layers
from attention.configs.names import MAX_LAYERS
from attention.errors import shown
from attention.parameters import Parameters, Routed
from attention.spec import MAX_HEADS, check_size

ARCHITECTURE = "general.architecture"
NOTES = "gguf_notes"
"""Key of a rewritten file that holds the notes for its reader."""
_TABLES = ("position_embd", "per_layer_token_embd", "token_types")
"""Tensors of which a token reads only its row, apart from the embedding."""


def is_header(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is the header of a GGUF file."""
    return not config.get("model_type") and ARCHITECTURE in config


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a file.

    Raises:
        ValueError: as in `gguf_header.read`, and for a file that names no architecture.
    """
    keys = gguf_header.read(path)
    if ARCHITECTURE not in keys:
        raise ValueError(f"{ARCHITECTURE} is missing: without it nobody knows what the file describes")
    return keys


class _Header:
    """The keys of one architecture, with types and ranges checked."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self.keys = keys
        self.notes: list[str] = []
        arch = keys[ARCHITECTURE]
        if not isinstance(arch, str) or not 0 < len(arch) <= 100:
            raise ValueError(f"{ARCHITECTURE} must be a short text, got {shown(arch)}")
        self.arch = arch

    def get(self, name: str) -> Any:
        return self.keys.get(f"{self.arch}.{name}")

    def refuse(self, name: str, why: str) -> NoReturn:
        raise ValueError(f"{self.arch}.{name} {why}")

    def size(self, name: str, minimum: int = 1, default: int | None = None, most: int = 2**40) -> int:
        value = self.get(name)
        if value is None:
            if default is None:
                self.refuse(name, "is missing")
            return default
        return check_size(f"{self.arch}.{name}", value, minimum, most)

    @property
    def n_layers(self) -> int:
        blocks = self.size("block_count", most=MAX_LAYERS)
        drafts = self.size("nextn_predict_layers", 0, 0)
        if drafts >= blocks:
            self.refuse("nextn_predict_layers", f"= {drafts:,} leaves none of the {blocks:,} blocks")
        if drafts:
            self.notes.append(f"the last {drafts} of {blocks} blocks draft tokens; their cache is not counted")
        return blocks - drafts

    def per_layer(self, name: str, n_layers: int, default: list[int] | None, minimum: int = 0) -> list[int]:
        """A number for each layer, stated once or as a list."""
        value = self.get(name)
        if value is None:
            if default is None:
                self.refuse(name, "is missing")
            return default
        if not isinstance(value, list):
            return [check_size(f"{self.arch}.{name}", value, minimum, MAX_HEADS)] * n_layers
        if len(value) < n_layers:
            self.refuse(name, f"must have an entry for each of the {n_layers} layers, got {len(value)}")
        return [check_size(f"{self.arch}.{name}[{i}]", v, 0, MAX_HEADS) for i, v in enumerate(value[:n_layers])]

    def config(self) -> dict[str, Any]:
        """The header's values as the fields of a config.json."""
        self._check_whole()
        gguf_types.check(self.arch)
        if self.get("attention.causal") is False:
            self.refuse("attention.causal", "= false: it is an encoder, which keeps no cache")
        n_layers = self.n_layers
        out: dict[str, Any] = {
            "num_hidden_layers": n_layers,
            "hidden_size": self.size("embedding_length"),
            "torch_dtype": "float16",
            **self._weights(),
        }
        if self.get("context_length") is not None:
            out["max_position_embeddings"] = self.size("context_length")
        heads = self.per_layer("attention.head_count", n_layers, None)
        kv = self.per_layer("attention.head_count_kv", n_layers, heads)
        if self.arch in gguf_types.LATENT:
            return {**out, **self._latent(heads, n_layers)}
        even = out["hidden_size"] // heads[0] if heads[0] and out["hidden_size"] % heads[0] == 0 else None
        k_dim = self.size("attention.key_length", default=even)
        v_dim = self.size("attention.value_length", default=even)
        if self.arch in gguf_types.CONVOLVED or self.arch in gguf_types.DELTA:
            return {**out, **self._hybrid(heads, kv, k_dim, v_dim, n_layers)}
        kinds, window = windowed_layers(self.arch, self.get, n_layers, self.notes)
        dims = (k_dim, v_dim, self.size("attention.key_length_swa", default=k_dim),
                self.size("attention.value_length_swa", default=v_dim))  # fmt: skip
        chunked = CHUNKED[0] in kinds
        out |= {"layer_types": kinds, "sliding_window": None if chunked else window}
        if chunked:
            out["attention_chunk_size"] = window
        return out | self._attention(heads, kv, dims, kinds, window, out["hidden_size"])

    def _check_whole(self) -> None:
        """Refuse a file that is not a model, or that is one part of a split model."""
        kind, parts = self.keys.get("general.type", "model"), self.keys.get("split.count", 1)
        if kind != "model":
            raise ValueError(f"general.type = {shown(kind)}: only a file of type 'model' has a cache of its own")
        if parts not in (0, 1):
            raise ValueError(
                f"split.count = {shown(parts)}: this file is one part of several; join them "
                "(llama-gguf-split --merge) or give the model's config.json"
            )

    def _weights(self) -> dict[str, Any]:
        """Fields that decide the weights and not the cache, under all names that classes have for them.

        `verify` needs them to build the model's own code.
        """
        tensors, tokens = self.keys.get(gguf_header.TENSORS), self.keys.get("tokenizer.ggml.tokens")
        out: dict[str, Any] = {}
        if isinstance(tensors, Mapping) and "token_embd" in tensors:
            out["tie_word_embeddings"] = "output" not in tensors
        for key, names in gguf_types.WEIGHTS.items():
            value = self.get(key) or (tokens if key == "vocab_size" else None)
            if isinstance(value, int):  # it is a list where layers differ; no class has a field for that
                out |= dict.fromkeys(names, check_size(f"{self.arch}.{key}", value))
        if self.arch in gguf_types.EXPERTS_ALONE and "moe_intermediate_size" in out:
            out["intermediate_size"] = out["moe_intermediate_size"]
        return out

    def _attention(
        self, heads: list[int], kv: list[int], dims: tuple[int, ...], kinds: list[str], window: int | None, width: int
    ) -> dict[str, Any]:
        """Fields of ordinary attention: for the type's own adapter where it can express them, else layer by layer."""
        k_dim, v_dim, k_sliding, v_sliding = dims
        model_type = gguf_types.of(self.arch, self.get, window)
        same = len(set(heads)) == len(set(kv)) == 1 and heads[0] > 0 and kv[0] > 0 and k_dim == v_dim
        if self.arch == "gemma4" and len(set(heads)) == 1 and k_dim == v_dim and k_sliding == v_sliding:
            return gguf_types.gemma4(heads[0], kv, (k_dim, k_sliding), kinds, self.size(gguf_types.SHARED, 0, 0))
        if self.get(gguf_types.SHARED):
            self.refuse(gguf_types.SHARED, "is stated: how layers of this architecture share is not described here")
        if same and k_dim == k_sliding and v_dim == v_sliding:
            own = gguf_types.fields(self.arch, model_type, heads[0], kv[0], k_dim, width, len(heads))
            if own is not None:
                return own
        if self.arch == "gemma3n":
            self.refuse("attention.head_count_kv", "must be one number: its last layers share the cache of others")
        return {
            "model_type": by_layer.MODEL_TYPE,
            "num_attention_heads_per_layer": heads,
            "num_key_value_heads_per_layer": kv,
            **{"head_dim": k_dim, "v_head_dim": v_dim, "swa_head_dim": k_sliding, "swa_v_head_dim": v_sliding},
        }

    def _latent(self, heads: list[int], n_layers: int) -> dict[str, Any]:
        """Fields of multi-head latent attention. Files from before April 2025 have no key_length_mla."""
        if len(set(heads)) > 1:
            self.refuse("attention.head_count", f"must be one number for all layers, got {shown(heads)}")
        rank, rope = self.size("attention.kv_lora_rank"), self.size("rope.dimension_count")
        key, value = self.size("attention.key_length"), self.size("attention.value_length")
        if self.get("attention.key_length_mla") is not None:
            if (key, value) != (rank + rope, rank):
                self.refuse("attention.key_length", f"= {key:,} and value_length = {value:,} contradict kv_lora_rank "
                            f"= {rank:,} and rope.dimension_count = {rope:,}")  # fmt: skip
            key, value = self.size("attention.key_length_mla"), self.size("attention.value_length_mla")
        else:
            expanded = heads[0] * (key + value)
            self.notes.append(
                f"key_length_mla is not stated: of so old a file llama.cpp caches {expanded:,} elements per token and "
                f"layer, the latent expanded; counted are the {rank + rope:,} of the latent"
            )
        if key <= rope:
            self.refuse("rope.dimension_count", f"= {rope:,} must be less than the {key:,} of a head's keys")
        out = {
            **{"model_type": gguf_types.LATENT[self.arch], "num_attention_heads": heads[0]},
            **{"num_key_value_heads": heads[0], "kv_lora_rank": rank, "qk_rope_head_dim": rope},
            **{"qk_nope_head_dim": key - rope, "v_head_dim": value, "q_lora_rank": self.get("attention.q_lora_rank")},
        }
        if self.arch in gguf_types.INDEXED:
            out |= {"index_head_dim": self.size("attention.indexer.key_length"),
                    "index_topk": self.size("attention.indexer.top_k")}  # fmt: skip
        if self.arch == "glm-dsa":
            out["indexer_types"] = self._indexers(n_layers)
        return out

    def _indexers(self, n_layers: int) -> list[str]:
        """Which layers own an indexer: all in GLM-5 and 5.1; files with a longer context (GLM-5.2) must list them."""
        if self.get("attention.indexer.types") is None and self.size("context_length") >= 2**20:
            self.refuse("attention.indexer.types", "is missing: which layers own an indexer is not stated")
        owned = self.per_layer("attention.indexer.types", n_layers, [1] * n_layers)
        return ["full" if own else "shared" for own in owned]

    def _hybrid(self, heads: list[int], kv: list[int], k_dim: int, v_dim: int, n_layers: int) -> dict[str, Any]:
        """Fields of attention layers among short convolutions (LFM2) or delta-rule layers (Qwen3-Next, Qwen3.5)."""
        counts = {(h, n) for h, n in zip(heads, kv, strict=True) if n}
        if len(counts) != 1 or k_dim != v_dim:
            self.refuse("attention.head_count_kv", f"must have one number for its layers of attention, got {shown(kv)}")
        ((n_heads, n_kv),) = counts
        out = {"num_attention_heads": n_heads, "num_key_value_heads": n_kv, "head_dim": k_dim}
        if self.arch in gguf_types.CONVOLVED:
            if self.get("attention.sliding_window"):
                self.refuse("attention.sliding_window", "is stated: windows beside convolutions are not described here")
            kinds = ["full_attention" if n else "conv" for n in kv]
            return {**out, "model_type": gguf_types.CONVOLVED[self.arch], "layer_types": kinds,
                    "conv_L_cache": self.size("shortconv.l_cache")}  # fmt: skip
        interval = self.size("full_attention_interval", default=4)
        recurrent = self.per_layer(
            "attention.recurrent_layers", n_layers, [int((i + 1) % interval != 0) for i in range(n_layers)]
        )
        n_values, inner = self.size("ssm.time_step_rank"), self.size("ssm.inner_size")
        if inner % n_values:
            self.refuse("ssm.inner_size", f"= {inner:,} is not a multiple of ssm.time_step_rank = {n_values:,}")
        return {
            **{**out, "model_type": gguf_types.DELTA[self.arch]},
            "layer_types": ["linear_attention" if one else "full_attention" for one in recurrent],
            **{"linear_num_key_heads": self.size("ssm.group_count"), "linear_num_value_heads": n_values},
            **{"linear_key_head_dim": self.size("ssm.state_size"), "linear_value_head_dim": inner // n_values},
            "linear_conv_kernel_dim": self.size("ssm.conv_kernel"),
        }


def rewritten(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A header in the names of a config.json, with notes for its reader under `NOTES`.

    Raises:
        ValueError: an architecture that is not described, a file that is not a whole model, a missing or wrong key.
    """
    header = _Header(keys)
    config = header.config()
    first = f"read as the header of a GGUF file of architecture {header.arch}, by llama.cpp's rules"
    return {**config, NOTES: [first, *header.notes, gguf_header.CACHE]}


def notes(part: Mapping[str, object]) -> list[str]:
    """The notes of a part that `rewritten` made."""
    found = part[NOTES]
    assert isinstance(found, list)
    return found


def parameters(keys: Mapping[str, Any], n_layers: int) -> Parameters | None:
    """The parameters, counted from the shapes of the file's tensors; None if the file lists no tensors.

    Raises:
        ValueError: the tensors contradict the header.
    """
    tensors = keys.get(gguf_header.TENSORS)
    if not isinstance(tensors, Mapping) or not tensors.get("token_embd"):
        return None
    for place, elements in tensors.items():
        check_size(f"{gguf_header.TENSORS}.{place:.80}", elements, 0, 2**50)
    header = _Header(keys)
    places = {f"blk.{index}{part}" for index in range(n_layers) for part in ("", " experts")}
    total = sum(n for place, n in tensors.items() if place in places or not place.startswith("blk."))
    width, tables = header.size("embedding_length"), [tensors[name] for name in _TABLES if name in tensors]
    if "output" in tensors:
        tables.append(tensors["token_embd"])
    per_layer = tensors.get("per_layer_token_embd", 0) * width // tensors["token_embd"]
    rows = per_layer + width * sum(name in tensors for name in ("position_embd", "token_types"))
    rows += width * ("output" in tensors)
    return Parameters(total, sum(tables), rows, routed=_routed(header, tensors, n_layers),
                      source="counted from the shapes of the file's tensors")  # fmt: skip


def _routed(header: _Header, tensors: Mapping[str, int], n_layers: int) -> tuple[Routed, ...]:
    """The experts of the layers, in groups of layers whose experts have the same size."""
    sizes = [n for index in range(n_layers) if (n := tensors.get(f"blk.{index} experts"))]
    if not sizes:
        return ()
    n_experts, n_chosen = header.size("expert_count"), header.size("expert_used_count")
    for size in sizes:
        if size % n_experts:
            header.refuse("expert_count", f"= {n_experts:,} does not divide the {size:,} elements of a layer's experts")
    return tuple(Routed(sizes.count(size), n_experts, n_chosen, size // n_experts) for size in dict.fromkeys(sizes))
