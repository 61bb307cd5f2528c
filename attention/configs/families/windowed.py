"""Families with shared caches, layers of other head sizes, or unusual field names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attention.configs.adapter import Adapter
from attention.configs.families import ordinary
from attention.configs.fields import Reader
from attention.configs.names import HEADS, whole
from attention.errors import shown
from attention.spec import Kind, Layer, attention_layer


def _share(reader: Reader, layers: list[Layer]) -> list[Layer]:
    """The layers, where each of the last `num_kv_shared_layers` reads the cache of an earlier layer.

    That layer is the last one of the same kind that has its own cache.
    """
    shared = reader.size("num_kv_shared_layers", minimum=0, default=0)
    if not shared:
        return layers
    first = len(layers) - shared
    if first < 1:
        reader.refuse("num_kv_shared_layers", f"= {shared} leaves none of the {len(layers)} layers with a cache")
    out = list(layers[:first])
    for layer in layers[first:]:
        source = next((i for i in range(first - 1, -1, -1) if layers[i].kind is layer.kind), None)
        if source is None:
            reader.refuse("num_kv_shared_layers", f"= {shared}: no earlier {layer.kind} layer to share with")
        out.append(Layer(Kind.SHARED, (), layer.n_heads, layer.k_head_dim, layer.v_head_dim, shares=source))
    return out


def read_gemma3n(reader: Reader) -> list[Layer]:
    """Gemma 3n: ordinary layers, of which the last ones read the cache of earlier layers."""
    return _share(reader, ordinary.read(reader))


def read_gemma4(reader: Reader) -> list[Layer]:
    """Gemma 4: full layers have heads of global_head_dim. They have num_global_key_value_heads K/V heads if
    attention_k_eq_v is true."""
    heads, kv, head_dim = reader.n_heads, reader.n_kv_heads(), reader.head_dim()
    if reader.raw.get("per_layer_config"):  # transformers writes this in place of the fields below
        return _share(reader, _gemma4_by_layer(reader))
    global_dim = reader.stated("global_head_dim")
    if global_dim is None:
        global_dim = 512
        reader.note(f"{reader.prefix}global_head_dim is not stated; {reader.model_type}'s class default 512 is used")
    global_kv = kv
    if reader.value("attention_k_eq_v", default=False):
        global_kv = reader.size("num_global_key_value_heads", default=kv)
    kinds = ordinary.layer_kinds(reader, reader.n_layers)
    if heads % global_kv:
        reader.refuse("num_global_key_value_heads", f"= {global_kv} does not divide num_attention_heads = {heads}")
    full = attention_layer(heads, global_kv, global_dim)
    sliding = attention_layer(heads, kv, head_dim, reader.window()) if ordinary.SLIDING[0] in kinds else full
    return _share(reader, [full if kind in ordinary.FULL else sliding for kind in kinds])


def _gemma4_by_layer(reader: Reader) -> list[Layer]:
    out = []
    for index, kind in enumerate(ordinary.layer_kinds(reader, reader.n_layers)):
        own = reader.defaults.per_layer_config[index]
        window = reader.window() if kind in ordinary.SLIDING else None
        out.append(attention_layer(own.num_attention_heads, own.num_key_value_heads, own.head_dim, window))
    return out


def prepare_refined_web(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of Falcon-40B as first published. They have n_head_kv and no new_decoder_architecture, because its own
    code always built the new architecture."""
    kv = raw.get("n_head_kv")
    if kv is None or "new_decoder_architecture" in raw or "multi_query" in raw:
        return raw
    return {"num_kv_heads": kv, **raw, "new_decoder_architecture": True}


def read_falcon(reader: Reader) -> list[Layer]:
    """Falcon. The old architecture has one K/V head if multi_query (whatever num_kv_heads states), else one per query
    head. The new architecture has num_kv_heads, or one per query head where that is not stated."""
    heads = reader.n_heads
    if reader.value("new_decoder_architecture", default=False):
        stated = reader.stated("num_kv_heads", "n_head_kv", "num_key_value_heads")
        kv = reader.n_kv_heads("num_kv_heads", "n_head_kv", "num_key_value_heads") if stated else heads
        if kv != heads:
            reader.note(
                "transformers' own code repeats K and V to all query heads before it caches them; engines store "
                f"{kv} K/V heads, as counted here"
            )
    else:
        kv = 1 if reader.value("multi_query", default=True) else heads
    return [attention_layer(heads, kv, reader.even_head_dim())] * reader.n_layers


def read_gpt_bigcode(reader: Reader) -> list[Layer]:
    """GPT-BigCode: one K/V head if multi_query, else one per query head."""
    heads = reader.n_heads
    kv = 1 if reader.value("multi_query", default=True) else heads
    return ordinary.layers_of(reader, heads, kv, reader.even_head_dim())


def prepare_mpt(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of MPT with attn_type replaced by a number of K/V heads: transformers' class reads only one attn_type
    and refuses the others."""
    attention = dict(raw.get("attn_config") or {})
    kind = attention.pop("attn_type", None) or "multihead_attention"
    kv = attention.pop("kv_n_heads", None)
    heads = next((raw[name] for name in HEADS if raw.get(name) is not None), None)
    if kv is not None:
        whole("attn_config.kv_n_heads", kv)
    if kind == "multiquery_attention":
        if kv not in (None, 1):
            raise ValueError(f"attn_config.kv_n_heads = {kv} contradicts attn_type = {shown(kind)}, which has one")
        kv = 1
    elif kind == "multihead_attention":
        if kv not in (None, heads):
            raise ValueError(
                f"attn_config.kv_n_heads = {kv} contradicts attn_type = {shown(kind)}, whose {heads} query heads each "
                "have their own K and V"
            )
        kv = heads
    elif kind != "grouped_query_attention" or kv is None:
        raise ValueError(
            f"attn_config.attn_type = {shown(kind)} with kv_n_heads = {shown(kv)} is not known; known are "
            "multihead_attention, multiquery_attention, and grouped_query_attention with kv_n_heads"
        )
    return {**raw, "attn_config": attention, "kv_n_heads": kv}


def _mpt_kind(part: Mapping[str, Any]) -> Any:
    attention = part.get("attn_config")
    return (attention.get("attn_type") if isinstance(attention, Mapping) else None) or "multihead_attention"


def read_mpt(reader: Reader) -> list[Layer]:
    """MPT, with the number of K/V heads that `prepare_mpt` found."""
    heads, kv = reader.n_heads, reader.raw["kv_n_heads"]
    if heads % kv:
        reader.refuse("attn_config.kv_n_heads", f"= {kv} does not divide n_heads = {heads}")
    return [attention_layer(heads, kv, reader.even_head_dim())] * reader.n_layers


def read_jetmoe(reader: Reader) -> list[Layer]:
    """JetMoE: each expert chosen for a token has one query head for every K/V head."""
    kv, experts = reader.size("num_key_value_heads"), reader.size("num_experts_per_tok")
    heads = reader.stated(*HEADS) or kv * experts
    return ordinary.layers_of(reader, heads, kv, reader.head_dim())


def read_dbrx(reader: Reader) -> list[Layer]:
    """DBRX: attn_config.kv_n_heads K/V heads."""
    attention = reader.raw.get("attn_config") or {}
    kv = attention.get("kv_n_heads")
    if kv is None:
        if not reader.nested:
            reader.refuse("attn_config.kv_n_heads", "is missing: the file does not state the K/V heads")
        kv = reader.n_kv_heads()
    return [attention_layer(reader.n_heads, kv, reader.head_dim())] * reader.n_layers


def read_gpt_neo(reader: Reader) -> list[Layer]:
    """GPT-Neo: multi-head attention. Its code keeps all positions of local layers too."""
    if any("local" in str(entry) for entry in reader.raw.get("attention_types") or ()):
        reader.note(
            "local layers read their last window_size positions only, but the model's own code keeps every "
            "position of every layer, as counted here"
        )
    return ordinary.read_multi_head(reader)


def read_step3p5(reader: Reader) -> list[Layer]:
    """Step-3.5 and 3.7: attention_other_setting states the heads of sliding layers, which may differ."""
    heads = reader.n_heads
    kv = reader.stated("num_attention_groups", "num_key_value_heads")
    kv = reader.size("num_attention_groups", "num_key_value_heads") if kv is None else kv
    head_dim = reader.size("head_dim")
    other = reader.raw.get("attention_other_setting") or {}
    if other.get("attention_type", "sliding_attention") != "sliding_attention":
        reader.refuse("attention_other_setting.attention_type", f"= {shown(other['attention_type'])} is not known")
    n_layers = reader.n_layers
    kinds = reader.per_layer("layer_types", n_layers)
    if kinds is None:
        reader.refuse("layer_types", "is missing: the file does not state which layers slide")
    sliding_heads = other.get("num_attention_heads") or reader.stated("num_sliding_attention_heads") or heads
    out = []
    full = attention_layer(heads, kv, head_dim)
    for kind in kinds:
        if kind == "full_attention":
            out.append(full)
        elif kind == "sliding_attention":
            out.append(
                attention_layer(
                    sliding_heads,
                    other.get("num_attention_groups", kv),
                    other.get("head_dim", head_dim),
                    reader.window(),
                )
            )
        else:
            reader.refuse("layer_types", f"holds {shown(kind)}, which {reader.model_type} does not have")
    return out


def read_mimo_v2(reader: Reader) -> list[Layer]:
    """MiMo-V2-Flash: keys of 192 and values of 128 elements; sliding layers may have other heads than full layers."""
    n_layers, heads, kv = reader.n_layers, reader.n_heads, reader.n_kv_heads()
    k_dim, v_dim = reader.size("head_dim"), reader.size("v_head_dim")
    pattern = reader.per_layer("hybrid_layer_pattern", n_layers)
    if pattern is None:
        kinds = reader.per_layer("layer_types", n_layers) or []
        pattern = [0 if kind == "full_attention" else 1 for kind in kinds]
    if any(isinstance(p, bool) or p not in (0, 1) for p in pattern):
        reader.refuse("hybrid_layer_pattern", "must hold 0 (full) and 1 (sliding) only")
    window = reader.stated("sliding_window_size")
    if window is None:
        # a file written by transformers states the window plus one, and its cache keeps one position less than that
        window = reader.stated("sliding_window") if "hybrid_layer_pattern" in reader.raw else reader.window() - 1
    swa_heads = reader.stated("swa_num_attention_heads") or heads
    swa_kv = reader.stated("swa_num_key_value_heads")
    if swa_kv is None:
        # transformers' class has no field for it: its sliding layers have twice the K/V heads of the full ones
        swa_kv = 2 * kv
    if reader.model_type == "mimo_v2_flash":  # this class has one head size for all layers
        for name, value in (("swa_num_key_value_heads", 2 * kv), ("swa_head_dim", k_dim), ("swa_v_head_dim", v_dim)):
            if reader.stated(name) not in (None, value):
                reader.refuse(name, f"= {reader.stated(name)} is not what mimo_v2_flash's code builds: {value}")
        listed = reader.raw.get("layer_types")
        if listed and [int(kind != "full_attention") for kind in listed] != pattern:
            reader.refuse("layer_types", "contradicts hybrid_layer_pattern")
    full = attention_layer(heads, kv, k_dim, v_head_dim=v_dim)
    sliding = attention_layer(
        swa_heads,
        swa_kv,
        reader.stated("swa_head_dim") or k_dim,
        window,
        v_head_dim=reader.stated("swa_v_head_dim") or v_dim,
    )
    return [sliding if p else full for p in pattern]


def read_mllama(reader: Reader) -> list[Layer]:
    """Llama 3.2 Vision's text model: cross-attention layers keep K and V of the image and none of the text."""
    layers = ordinary.read(reader)
    cross = reader.value("cross_attention_layers", default=[])
    if any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(layers) for i in cross):
        reader.refuse("cross_attention_layers", f"must hold layer indices below {len(layers)}, got {shown(cross)}")
    reader.note(
        f"{len(cross)} cross-attention layers keep K and V of the image patches, a constant that is not counted: "
        "it depends on the images, not on the text"
    )
    chosen = set(cross)
    first = layers[0]
    empty = Layer(Kind.NONE, (), first.n_heads, first.k_head_dim, first.v_head_dim)
    return [empty if i in chosen else layer for i, layer in enumerate(layers)]


def read_laguna(reader: Reader) -> list[Layer]:
    """Laguna: layers may differ in their query heads, but not in their K/V heads."""
    heads = reader.raw.get("num_attention_heads_per_layer")
    layers = ordinary.read(reader)
    if not heads:
        return layers
    out = []
    for layer, n_heads in zip(layers, heads, strict=True):
        window = layer.key_value.window if layer.key_value else None
        out.append(attention_layer(n_heads, layer.n_kv_heads, layer.k_head_dim, window))
    return out


ADAPTERS = {
    "gemma3n_text": Adapter(read_gemma3n),
    "gemma4_text": Adapter(read_gemma4, by_layer=True),
    "gemma4_unified_text": Adapter(read_gemma4, by_layer=True),
    "falcon": Adapter(read_falcon),
    **{
        name: Adapter(read_falcon, class_type="falcon", prepare=prepare_refined_web)
        for name in ("RefinedWeb", "RefinedWebModel")
    },
    "gpt_bigcode": Adapter(read_gpt_bigcode),
    "mpt": Adapter(read_mpt, prepare=prepare_mpt, foreign=lambda part: _mpt_kind(part) != "multihead_attention"),
    "jetmoe": Adapter(read_jetmoe),
    "dbrx": Adapter(read_dbrx, uses_class=False),
    "gpt_neo": Adapter(read_gpt_neo),
    "step3p5": Adapter(read_step3p5, uses_class=False),
    "laguna": Adapter(read_laguna),
    "mimo_v2": Adapter(read_mimo_v2, class_type="mimo_v2_flash", same_code=False),
    "step3p7": Adapter(read_step3p5, uses_class=False),
    "step3p7_text": Adapter(read_step3p5, uses_class=False),
    "mimo_v2_flash": Adapter(read_mimo_v2),
    "mllama_text_model": Adapter(read_mllama),
}
