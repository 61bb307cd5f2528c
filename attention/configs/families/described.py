"""Published types without a class in transformers, whose own code is public and comes with the weights.

That code is never run. A file that leaves out a size is refused, unless the type's own rule gives the size.
"""

from __future__ import annotations

from attention.configs.adapter import Adapter
from attention.configs.fields import Reader
from attention.errors import shown
from attention.spec import Kind, Layer, attention_layer, check_size


def read_grouped(reader: Reader) -> list[Layer]:
    """Types with Llama's fields. num_key_value_heads must be stated; null means as many as query heads."""
    heads = reader.n_heads
    null = any(name in reader.raw and reader.raw[name] is None for name in ("num_key_value_heads",))
    kv = reader.n_kv_heads(absent=heads if null else None)
    head_dim = reader.head_dim("head_dim", "kv_channels")
    return [attention_layer(heads, kv, head_dim)] * reader.n_layers


def read_multi_head(reader: Reader) -> list[Layer]:
    """Types whose code has as many K/V heads as query heads and no field for anything else."""
    heads = reader.n_heads
    stated = reader.stated("num_key_value_heads", "num_kv_heads")
    if stated is not None and stated != heads:
        reader.refuse("num_key_value_heads", f"= {stated} contradicts {reader.model_type}, which is multi-head")
    return [attention_layer(heads, heads, reader.head_dim("kv_channels", "head_dim"))] * reader.n_layers


def read_grouped_or_multi_head(reader: Reader) -> list[Layer]:
    """Types with num_key_value_heads K/V heads where that is stated, else as many as query heads, as in their code."""
    heads = reader.n_heads
    kv = reader.n_kv_heads(absent=heads)
    return [attention_layer(heads, kv, reader.head_dim())] * reader.n_layers


def read_windowed(reader: Reader) -> list[Layer]:
    """Qwen2's rule (MiMo): layers from max_window_layers on have a window, if use_sliding_window is true."""
    heads = reader.n_heads
    layer = attention_layer(heads, reader.n_kv_heads(), reader.head_dim())
    n_layers = reader.n_layers
    if not reader.raw.get("use_sliding_window"):
        return [layer] * n_layers
    first = reader.size("max_window_layers", minimum=0)
    sliding = attention_layer(heads, layer.n_kv_heads, layer.k_head_dim, reader.window())
    return [layer if i < first else sliding for i in range(n_layers)]


def read_chatglm(reader: Reader) -> list[Layer]:
    """ChatGLM2/3 and GLM-4-9B: with multi_query_attention there are multi_query_group_num K/V heads of size
    kv_channels. A file without these fields is ChatGLM-6B, which is multi-head."""
    heads = reader.n_heads
    kv = heads
    if reader.raw.get("multi_query_attention"):
        kv = reader.n_kv_heads("multi_query_group_num")
    return [attention_layer(heads, kv, reader.head_dim("kv_channels"))] * reader.n_layers


def read_baichuan_m1(reader: Reader) -> list[Layer]:
    """Baichuan-M1: layers listed in sliding_window_layers have a window, and may have other numbers of heads."""
    n_layers, width = reader.n_layers, reader.width
    heads, kv = reader.n_heads, reader.n_kv_heads()
    listed = reader.raw.get("sliding_window_layers")
    if listed is None:
        reader.refuse("sliding_window_layers", "is missing: the file does not state which layers slide")
    for index in listed:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < n_layers:
            reader.refuse("sliding_window_layers", f"must hold layer indices below {n_layers}, got {shown(index)}")
    swa_heads = reader.stated("num_swa_attention_heads") or heads
    swa_kv = reader.stated("num_swa_key_value_heads") or kv
    if width % heads or width % swa_heads:
        reader.refuse("hidden_size", f"= {width} is not a multiple of {heads} and {swa_heads} query heads")
    full = attention_layer(heads, kv, width // heads)
    sliding = attention_layer(swa_heads, swa_kv, width // swa_heads, reader.window()) if listed else full
    chosen = set(listed)
    return [sliding if i in chosen else full for i in range(n_layers)]


def read_palm(reader: Reader) -> list[Layer]:
    """PaLM (arXiv:2204.02311, section 2): multi-query attention with one K/V head."""
    heads = reader.n_heads
    if "multi_query" in reader.raw and reader.raw["multi_query"] is not True:
        reader.refuse("multi_query", "must be true: PaLM has one K/V head")
    kv = reader.n_kv_heads(absent=1)
    return [attention_layer(heads, kv, reader.head_dim())] * reader.n_layers


def read_hunyuan(reader: Reader) -> list[Layer]:
    """Hunyuan-Large (arXiv:2411.02265): with cross-layer attention, each cla_share_factor layers share one cache."""
    layer = attention_layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim("head_dim", "attention_head_dim"))
    n_layers = reader.n_layers
    if not reader.raw.get("use_cla"):
        return [layer] * n_layers
    factor = reader.size("cla_share_factor")
    return [
        layer
        if i % factor == 0
        else Layer(Kind.SHARED, (), layer.n_heads, layer.k_head_dim, layer.v_head_dim, shares=i - i % factor)
        for i in range(n_layers)
    ]


def read_nemotron_nas(reader: Reader) -> list[Layer]:
    """Llama changed by the Puzzle search (Nemotron Super and Ultra): block_configs states for each layer whether it has
    attention and how many query heads share a K/V head. DeciLM-7B lists the K/V heads of each layer."""
    if reader.n_layers != reader.stated("num_hidden_layers"):
        reader.refuse("num_hidden_layers", "is missing: the per-layer lists are cut to it")
    heads = reader.n_heads
    head_dim = reader.head_dim()
    listed = reader.raw.get("num_key_value_heads_per_layer")
    if listed:
        return [attention_layer(heads, check_size("num_key_value_heads_per_layer", n), head_dim) for n in listed]
    blocks = reader.raw.get("block_configs")
    if not blocks:
        reader.refuse("block_configs", "is missing: the file does not state each layer's attention")
    out = []
    for index, block in enumerate(blocks):
        attention = block.get("attention") if isinstance(block, dict) else None
        if not isinstance(attention, dict):
            reader.refuse(f"block_configs[{index}].attention", f"must be an object, got {shown(attention)}")
        if attention.get("no_op") or attention.get("replace_with_linear"):
            out.append(Layer(Kind.NONE))
            continue
        label = f"block_configs[{index}].attention"
        if attention.get("num_key_value_heads") is not None:
            kv = check_size(f"{label}.num_key_value_heads", attention["num_key_value_heads"])
        else:
            group = check_size(f"{label}.n_heads_in_group", attention.get("n_heads_in_group"))
            if heads % group:
                reader.refuse(f"{label}.n_heads_in_group", f"= {group} does not divide {heads} query heads")
            kv = heads // group
        window = attention.get("window_length")
        if window is not None:
            check_size(f"block_configs[{index}].attention.window_length", window)
        out.append(attention_layer(heads, kv, head_dim, window))
    return out


def read_openelm(reader: Reader) -> list[Layer]:
    """OpenELM (arXiv:2404.14619): query and K/V heads grow from layer to layer."""
    n_layers, head_dim = reader.stated("num_transformer_layers") or reader.n_layers, reader.stated("head_dim")
    if head_dim is None:
        reader.refuse("head_dim", "is missing: heads differ from layer to layer")
    queries, keys = reader.raw.get("num_query_heads"), reader.raw.get("num_kv_heads")
    for name, value in (("num_query_heads", queries), ("num_kv_heads", keys)):
        if not isinstance(value, list) or len(value) < n_layers:
            reader.refuse(name, f"must list a number for each of the {n_layers} layers")
        for entry in value:
            check_size(name, entry)
    assert isinstance(queries, list)
    assert isinstance(keys, list)
    return [attention_layer(q, k, head_dim) for q, k in zip(queries[:n_layers], keys[:n_layers], strict=True)]


def read_codeshell(reader: Reader) -> list[Layer]:
    """CodeShell: num_query_groups K/V heads."""
    heads = reader.n_heads
    kv = reader.n_kv_heads("num_query_groups")
    return [attention_layer(heads, kv, reader.head_dim())] * reader.n_layers


def read_step3(reader: Reader) -> list[Layer]:
    """Step-3 (multi-matrix factorisation attention): num_attention_groups K/V heads of head_dim."""
    heads, kv = reader.n_heads, reader.stated("num_attention_groups", "num_key_value_heads")
    if kv is None:
        reader.refuse("num_attention_groups", "is missing: the file does not state the K/V heads")
    head_dim = reader.stated("head_dim")
    if head_dim is None:
        reader.refuse("head_dim", "is missing: it is not hidden_size / heads in this family")
    return [attention_layer(heads, kv, head_dim)] * reader.n_layers


def read_olmo_original(reader: Reader) -> list[Layer]:
    """OLMo in its first format: n_kv_heads K/V heads, else one if multi_query_attention, else one per query head."""
    heads = reader.n_heads
    kv = reader.stated("n_kv_heads")
    if kv is None:
        kv = 1 if reader.raw.get("multi_query_attention") else heads
    return [attention_layer(heads, kv, reader.head_dim())] * reader.n_layers


def read_plamo(reader: Reader) -> list[Layer]:
    """PLaMo: n_shared_head query heads share a K/V head."""
    heads, group = reader.n_heads, reader.stated("n_shared_head")
    if group is None or heads % group:
        reader.refuse("n_shared_head", f"= {shown(group)} must be stated and divide {heads} query heads")
    return [attention_layer(heads, heads // group, reader.head_dim())] * reader.n_layers


GROUPED = (
    *("internlm2", "minicpm", "exaone", "bailing_moe", "bailing_moe_v2"),
    *(
        "arctic",
        "phi3small",
        "Yi",
        "orion",
        "skywork_moe",
        "telechat2",
        "molmo",
        "grok-1",
        "grok",
        "dots_ocr",
        "ernie4_5_moe_vl",
        "llava_llama",
        "llava_qwen",
        "llava",
        "minicpmo",
        "pangu_embedded",
        "hunyuan_v1",
        "zhinao",
    ),
)
GROUPED_OR_MULTI_HEAD = (
    "deepseek",
    "xverse",
    "aquila",
    "stablelm_epoch",
    "internlmxcomposer2",
    "minicpmv",
    "cogvlm2",
    "phi-msft",
    "skywork",
    "telechat",
)
MULTI_HEAD = ("qwen", "baichuan", "internlm", "mixformer-sequential", "stablelm_alpha", "btlm", "jais")

ADAPTERS = {
    **{name: Adapter(read_grouped, uses_class=False) for name in GROUPED},
    **{name: Adapter(read_grouped_or_multi_head, uses_class=False) for name in GROUPED_OR_MULTI_HEAD},
    **{name: Adapter(read_multi_head, uses_class=False) for name in MULTI_HEAD},
    "mimo": Adapter(read_windowed, uses_class=False),
    "chatglm": Adapter(read_chatglm, uses_class=False),
    "baichuan_m1": Adapter(read_baichuan_m1, uses_class=False),
    "palm": Adapter(read_palm, uses_class=False),
    "hunyuan": Adapter(read_hunyuan, uses_class=False),
    "nemotron-nas": Adapter(read_nemotron_nas, uses_class=False),
    "deci": Adapter(read_nemotron_nas, uses_class=False),
    "deci_lm": Adapter(read_nemotron_nas, uses_class=False),
    "openelm": Adapter(read_openelm, uses_class=False),
    "codeshell": Adapter(read_codeshell, uses_class=False),
    "hf_olmo": Adapter(read_olmo_original, uses_class=False),
    "plamo": Adapter(read_plamo, uses_class=False),
    "step3_text": Adapter(read_step3, uses_class=False),
}
