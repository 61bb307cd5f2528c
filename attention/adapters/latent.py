"""Multi-head latent attention: one vector per token and layer, whatever the number of heads.

The compressed form is counted (DeepSeek-V2, arXiv:2405.04434, section 2.1): kv_lora_rank + qk_rope_head_dim
elements. It is what serving engines store, and transformers since 5.15.
"""

from __future__ import annotations

from attention.adapters.base import Adapter
from attention.adapters.fields import Reader
from attention.spec import Kind, Layer, PositionState, Role, attention_layer, latent_layer

V4_LAYERS = {"sliding_attention": None, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def latent(reader: Reader, index_head_dim: int | None = None) -> Layer:
    """The one latent layer that all MLA layers of a model equal."""
    rank = reader.size("kv_lora_rank")
    rope = reader.size("qk_rope_head_dim")
    nope = reader.size("qk_nope_head_dim")
    return latent_layer(reader.n_heads, rank, rope, nope, reader.size("v_head_dim"), index_head_dim)


def read(reader: Reader) -> list[Layer]:
    return [latent(reader)] * reader.n_layers


def read_deepseek_v2(reader: Reader) -> list[Layer]:
    """DeepSeek-V2; its small vision-language relatives state use_mla false and have ordinary attention."""
    if reader.raw.get("use_mla", True):
        return read(reader)
    heads, width = reader.n_heads, reader.width
    if width % heads:
        reader.refuse("hidden_size", f"= {width} is not a multiple of {heads} query heads")
    return [attention_layer(heads, reader.n_kv_heads(), width // heads)] * reader.n_layers


def read_indexed(reader: Reader) -> list[Layer]:
    """With a sparse indexer, whose keys are cached too, in the layers that own one (`indexer_types`)."""
    n_layers = reader.n_layers
    indexed = latent(reader, reader.size("index_head_dim"))
    plain = latent(reader)
    types = reader.per_layer("indexer_types", n_layers)
    if types is None:
        return [indexed] * n_layers
    if any(kind not in ("full", "shared") for kind in types):
        reader.refuse("indexer_types", 'must hold "full" and "shared" only')
    return [indexed if kind == "full" else plain for kind in types]


def read_longcat(reader: Reader) -> list[Layer]:
    """Every layer of LongCat-Flash holds two attention blocks, each with a cache of its own."""
    n_layers = reader.n_layers
    reader.note(f"each of the {n_layers} layers has two attention blocks: {2 * n_layers} caches")
    return [latent(reader)] * (2 * n_layers)


def read_longcat_native(reader: Reader) -> list[Layer]:
    """`num_layers` counts layers of two blocks; a `num_hidden_layers` alone would leave open what it counts."""
    if reader.raw.get("num_layers") is None:
        reader.refuse("num_layers", "is missing: the file does not state the number of layers")
    return read_longcat(reader)


def read_deepseek_v4(reader: Reader) -> list[Layer]:
    """One K/V head whose keys serve as values: a window of `sliding_window` vectors in every layer; compressed
    layers add one vector per `ratio` tokens, and ratio-4 layers one indexer key per 4 tokens."""
    n_layers, heads = reader.n_layers, reader.n_heads
    head_dim, window = reader.size("head_dim"), reader.window()
    ratios = reader.raw.get("compress_ratios")
    rates = reader.raw.get("compress_rates") or {}
    if not ratios:
        kinds = reader.per_layer("layer_types", n_layers) or []
        for kind in kinds:
            if kind not in V4_LAYERS:
                reader.refuse("layer_types", f"holds {kind!r}, which {reader.model_type} does not have")
        if "compress_ratios" not in reader.raw and "layer_types" not in reader.raw:
            reader.refuse("compress_ratios", "is missing: the file does not state which layers compress")
        ratios = [rates.get(kind, V4_LAYERS[kind]) or 0 for kind in kinds]
    made: dict[int, Layer] = {}
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, int) or ratio < 0 or ratio > 2**20:
            reader.refuse("compress_ratios", f"must hold whole numbers of at least 0, got {ratio!r}")
        if ratio not in made:
            states = [PositionState(Role.COMPRESSED, 1, head_dim, 0, window)]
            if ratio:
                states.append(PositionState(Role.COMPRESSED, 1, head_dim, 0, stride=ratio))
            if ratio == 4:
                states.append(PositionState(Role.INDEXER, 1, reader.size("index_head_dim"), 0, stride=ratio))
            made[ratio] = Layer(Kind.COMPRESSED, tuple(states), heads, head_dim, head_dim)
    reader.note(
        "keys serve as values, so one vector is counted; transformers keeps, beyond this, the unfinished block's "
        "buffers and a second copy of the window in uncompressed layers"
    )
    return [made[ratio] for ratio in ratios]


def read_minimax_m3(reader: Reader) -> list[Layer]:
    """MiniMax-M3: ordinary attention in every layer; sparse ones also cache an indexer's keys."""
    n_layers = reader.n_layers
    layer = attention_layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim())
    kinds = reader.per_layer("layer_types", n_layers) or ["full_attention"] * n_layers
    if any(kind not in ("full_attention", "minimax_m3_sparse") for kind in kinds):
        reader.refuse("layer_types", 'must hold "full_attention" and "minimax_m3_sparse" only')
    indexer = PositionState(Role.INDEXER, 1, reader.default("index_head_dim"), 0)
    sparse = Layer(Kind.FULL, (*layer.states, indexer), layer.n_heads, layer.k_head_dim, layer.v_head_dim)
    return [sparse if kind == "minimax_m3_sparse" else layer for kind in kinds]


ADAPTERS = {
    **{name: Adapter(read) for name in ("deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu", "axk1", "mistral4")},
    "deepseek_v2": Adapter(read_deepseek_v2),
    "kimi_k2": Adapter(read, class_type="deepseek_v3"),
    "kimi_k25": Adapter(read, class_type="deepseek_v3"),
    "deepseek_v32": Adapter(read_indexed),
    "glm_moe_dsa": Adapter(read_indexed),
    **{name: Adapter(read_indexed) for name in ("axk2", "hy_v4", "mistral_large4_text")},
    "minimax_m3_vl_text": Adapter(read_minimax_m3),
    **{
        name: Adapter(read_minimax_m3, class_type="minimax_m3_vl_text", same_code=False)
        for name in ("minimax_m3", "minimax_m3_text")
    },
    "longcat_flash": Adapter(read_longcat_native),
    "deepseek_v4": Adapter(read_deepseek_v4),
}
