"""Multi-head latent attention: one vector per token and layer, for any number of heads.

The compressed form is counted (DeepSeek-V2, arXiv:2405.04434, section 2.1): kv_lora_rank + qk_rope_head_dim
elements. Serving engines store this form, and transformers does since 5.15.
"""

from __future__ import annotations

from dataclasses import replace

from attention.configs.adapter import Adapter
from attention.configs.fields import Reader
from attention.errors import shown
from attention.spec import Kind, Layer, PositionState, Role, attention_layer, check_size, latent_layer

V4_LAYERS = {"sliding_attention": None, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def latent(reader: Reader, index_head_dim: int | None = None, reads: int | None = None) -> Layer:
    """One latent layer of the model; all its latent layers have these sizes."""
    rank = reader.size("kv_lora_rank")
    rope = reader.size("qk_rope_head_dim")
    nope = reader.size("qk_nope_head_dim")
    return latent_layer(reader.n_heads, rank, rope, nope, reader.size("v_head_dim"), index_head_dim, reads)


def read(reader: Reader) -> list[Layer]:
    """Types whose layers are all latent, without an indexer."""
    return [latent(reader)] * reader.n_layers


def read_deepseek_v2(reader: Reader) -> list[Layer]:
    """DeepSeek-V2. Its small vision-language models state use_mla = false and have ordinary attention."""
    if reader.raw.get("use_mla") is not False:
        return read(reader)
    if reader.raw.get("kv_lora_rank"):
        reader.refuse("use_mla", f"= false contradicts kv_lora_rank = {reader.raw['kv_lora_rank']}")
    heads, width = reader.n_heads, reader.width
    if width % heads:
        reader.refuse("hidden_size", f"= {width} is not a multiple of {heads} query heads")
    return [attention_layer(heads, reader.n_kv_heads(), width // heads)] * reader.n_layers


def read_indexed(reader: Reader) -> list[Layer]:
    """Latent layers with a sparse indexer. Layers that own an indexer (`indexer_types`) also cache its keys. Layers
    without one read what the indexer of an earlier layer picked."""
    n_layers, picked = reader.n_layers, _picked(reader)
    indexed = latent(reader, reader.size("index_head_dim"), picked)
    plain = latent(reader, reads=picked)
    types = reader.per_layer("indexer_types", n_layers)
    if types is None:
        return [indexed] * n_layers
    if any(kind not in ("full", "shared") for kind in types):
        reader.refuse("indexer_types", 'must hold "full" and "shared" only')
    return [indexed if kind == "full" else plain for kind in types]


def _picked(reader: Reader) -> int | None:
    """Entries that an indexer picks for a step; None where neither the file nor the class states it."""
    picked = reader.stated("index_topk") or reader.default("index_topk")
    return None if picked is None else check_size(f"{reader.prefix}index_topk", picked)


def read_mistral_large4(reader: Reader) -> list[Layer]:
    """Mistral Large 4: layers without RoPE keep the latent without a RoPE part. A layer whose `kv_source_layers` entry
    names another layer keeps nothing."""
    layers = read_indexed(reader)
    rope = reader.per_layer("no_rope_layers", len(layers)) or [1] * len(layers)
    sources = reader.per_layer("kv_source_layers", len(layers)) or list(range(len(layers)))
    out: list[Layer] = []
    for index, (layer, rotates, source) in enumerate(zip(layers, rope, sources, strict=True)):
        if rotates not in (0, 1):
            reader.refuse("no_rope_layers", f"must hold 1 (RoPE) and 0 (none) only, got {shown(rotates)}")
        key, *indexer = layer.states
        assert isinstance(key, PositionState)
        if source == index:
            states = (key if rotates else replace(key, v_head_dim=0), *indexer)
            out.append(replace(layer, states=states))
        elif indexer:
            reader.refuse("kv_source_layers", f"= {source} in layer {index}, which has an indexer of its own: unknown")
        else:
            out.append(replace(layer, kind=Kind.SHARED, states=(), shares=check_size("kv_source_layers", source, 0)))
    return out


def read_longcat(reader: Reader) -> list[Layer]:
    """LongCat-Flash: every layer holds two attention blocks, each with its own cache."""
    n_layers = reader.n_layers
    reader.note(f"each of the {n_layers} layers has two attention blocks: {2 * n_layers} caches")
    return [latent(reader)] * (2 * n_layers)


def read_longcat_native(reader: Reader) -> list[Layer]:
    """LongCat-Flash's own files: `num_layers` counts layers of two blocks. A file with `num_hidden_layers` alone is
    refused, because that could count layers or blocks."""
    if reader.raw.get("num_layers") is None:
        reader.refuse("num_layers", "is missing: the file does not state the number of layers")
    return read_longcat(reader)


def read_deepseek_v4(reader: Reader) -> list[Layer]:
    """DeepSeek-V4: one K/V head whose keys serve as values. Every layer keeps a window of `sliding_window` vectors.
    Compressed layers add one vector per `rate` tokens (V4_LAYERS has the default rates), and compressed sparse layers
    also one indexer key per `rate` tokens."""
    n_layers, heads = reader.n_layers, reader.n_heads
    head_dim, window = reader.size("head_dim"), reader.window()
    if not reader.raw.get("compress_ratios") and not reader.raw.get("layer_types"):
        reader.refuse("compress_ratios", "is missing: the file does not state which layers compress")
    # the class reads both spellings, of the layers and of the rates
    kinds, rates = reader.per_layer("layer_types", n_layers) or [], reader.default("compress_rates") or {}
    made: dict[str, Layer] = {}
    for kind in kinds:
        if kind in made:
            continue
        if kind not in V4_LAYERS:
            reader.refuse("layer_types", f"holds {shown(kind)}, which {reader.model_type} does not have")
        states = [PositionState(Role.COMPRESSED, 1, head_dim, 0, window)]
        if kind != "sliding_attention":
            rate = check_size(f"{reader.prefix}compress_rates.{kind}", rates.get(kind, V4_LAYERS[kind]), 1, 2**20)
            picked = _picked(reader) if kind == "compressed_sparse_attention" else None
            states.append(PositionState(Role.COMPRESSED, 1, head_dim, 0, stride=rate, reads=picked))
        if kind == "compressed_sparse_attention":
            states.append(PositionState(Role.INDEXER, 1, reader.size("index_head_dim"), 0, stride=rate))
        made[kind] = Layer(Kind.COMPRESSED, tuple(states), heads, head_dim, head_dim)
    reader.note(
        "keys serve as values, so one vector is counted; transformers keeps, beyond this, the unfinished block's "
        "buffers and a second copy of the window in uncompressed layers"
    )
    return [made[kind] for kind in kinds]


def read_minimax_m3(reader: Reader) -> list[Layer]:
    """MiniMax-M3: every layer has ordinary attention. Sparse layers also cache an indexer's keys, with which each K/V
    head picks `index_topk_blocks` blocks. The last block may hold only one entry, so `reads` counts one entry of it."""
    n_layers = reader.n_layers
    layer = attention_layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim())
    kinds = reader.per_layer("layer_types", n_layers) or ["full_attention"] * n_layers
    if any(kind not in ("full_attention", "minimax_m3_sparse") for kind in kinds):
        reader.refuse("layer_types", 'must hold "full_attention" and "minimax_m3_sparse" only')
    indexer = PositionState(Role.INDEXER, 1, reader.default("index_head_dim"), 0)
    blocks, block = (reader.default(name) for name in ("index_topk_blocks", "index_block_size"))
    held = layer.states[0]
    assert isinstance(held, PositionState)
    picked = replace(held, reads=(blocks - 1) * block + 1 if blocks and block else None)
    sparse = replace(layer, states=(picked, indexer))
    return [sparse if kind == "minimax_m3_sparse" else layer for kind in kinds]


ADAPTERS = {
    **{name: Adapter(read) for name in ("deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu", "axk1", "mistral4")},
    "deepseek_v2": Adapter(read_deepseek_v2, foreign=lambda part: part.get("use_mla") is False),
    "kimi_k2": Adapter(read, class_type="deepseek_v3"),
    "kimi_k25": Adapter(read, class_type="deepseek_v3"),
    "deepseek_v32": Adapter(read_indexed),
    "glm_moe_dsa": Adapter(read_indexed),
    **{name: Adapter(read_indexed) for name in ("axk2", "hy_v4")},
    "mistral_large4_text": Adapter(read_mistral_large4),
    "minimax_m3_vl_text": Adapter(read_minimax_m3),
    **{
        name: Adapter(read_minimax_m3, class_type="minimax_m3_vl_text", same_code=False)
        for name in ("minimax_m3", "minimax_m3_text")
    },
    "longcat_flash": Adapter(read_longcat_native),
    "deepseek_v4": Adapter(read_deepseek_v4),
    "deepseek_ref": Adapter(read_deepseek_v4, class_type="deepseek_v4"),  # SGLang's name in converted files
}
