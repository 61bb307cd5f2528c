"""Ordinary attention: K and V of every K/V head, for all positions or the last ones, as each layer's kind says.

The types named here ran with their own code on meta tensors, and the results agree with this reading
(`tests/oracle/test_verify.py` repeats that for every configuration of the test data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attention.configs.adapter import Adapter
from attention.configs.fields import Reader
from attention.configs.names import LAYERS, MAX_LAYERS
from attention.errors import shown
from attention.spec import FixedState, Layer, PositionState, Role, attention_layer, check_size

FULL = ("full_attention", "attention")
SLIDING = ("sliding_attention", "local_attention")
CHUNKED = ("chunked_attention",)


def layer_kinds(reader: Reader, n_layers: int) -> list[str]:
    """The kind of each layer, in transformers' order of precedence: as listed in layer_types; else all sliding if the
    class has a window; else all chunked if it has a chunk size; else all full."""
    stated = reader.per_layer("layer_types", n_layers)
    if stated is not None:
        for value in stated:
            if value not in (*FULL, *SLIDING, *CHUNKED):
                reader.refuse("layer_types", f"holds {shown(value)}, which {reader.model_type} does not have here")
        return stated
    window = reader.raw.get("sliding_window")
    if reader.defaults is not None:
        window = reader.default("sliding_window")
        if window is not None and "sliding_window" not in reader.raw:
            reader.note(
                f"{reader.prefix}sliding_window is not stated; {reader.model_type}'s class default {window} is used"
            )
    if window is not None:
        return [SLIDING[0]] * n_layers
    if reader.default("attention_chunk_size") is not None:
        return [CHUNKED[0]] * n_layers
    return [FULL[0]] * n_layers


def check_windows(reader: Reader, layers: list[Layer]) -> None:
    """Refuse a window in a file whose family has none.

    transformers' cache would still drop the positions before the window, even if the attention code does not know the
    window.

    Raises:
        ValueError: such a window is stated; the message names its field.
    """
    if reader.default("layer_types") is not None:
        return
    if any(isinstance(state, PositionState) and state.window for layer in layers for state in layer.states):
        return
    for name in ("sliding_window", "attention_chunk_size"):
        value = reader.raw.get(name) if reader.defaults is None else reader.default(name)
        if value is not None:
            reader.refuse(
                name, f"= {value} is stated, and {reader.model_type} has no sliding layers: what it keeps is not known"
            )


def layers_of(
    reader: Reader, n_heads: int, n_kv_heads: int, head_dim: int, v_head_dim: int | None = None
) -> list[Layer]:
    """Layers of the kinds that `layer_kinds` gives, all with the same heads."""
    made: dict[str, Layer] = {}
    out = []
    for kind in layer_kinds(reader, reader.n_layers):
        if kind not in made:
            window = None
            if kind in SLIDING:
                window = reader.window()
            elif kind in CHUNKED:
                window = reader.size("attention_chunk_size")
            made[kind] = attention_layer(
                n_heads, n_kv_heads, head_dim, window, v_head_dim=v_head_dim, chunked=kind in CHUNKED
            )
        out.append(made[kind])
    return out


def read(reader: Reader) -> list[Layer]:
    """Types with the usual fields for query heads, K/V heads and head size."""
    return layers_of(reader, reader.n_heads, reader.n_kv_heads(), reader.head_dim())


def read_even_heads(reader: Reader) -> list[Layer]:
    """Families whose code takes width over query heads as the head size and reads no head_dim."""
    return layers_of(reader, reader.n_heads, reader.n_kv_heads(), reader.even_head_dim())


def read_multi_head(reader: Reader) -> list[Layer]:
    """Families in which every query head has its own K and V (GPT-2, OPT, BLOOM …)."""
    heads = reader.n_heads
    # SantaCoder was first published as a GPT-2 with its own code; other classes do not read the field
    if reader.model_type == "gpt2" and reader.raw.get("attention_head_type", "multihead") != "multihead":
        if reader.raw["attention_head_type"] != "multiquery" or reader.width % heads:
            reader.refuse("attention_head_type", f"= {shown(reader.raw['attention_head_type'])} is not known")
        return layers_of(reader, heads, 1, reader.width // heads)
    stated = reader.stated("num_key_value_heads")
    if stated is not None and stated != heads:
        reader.refuse(
            "num_key_value_heads",
            f"= {stated} contradicts {reader.model_type}, whose {heads} query heads each have their own K and V",
        )
    if reader.width % heads:
        reader.refuse("hidden_size", f"= {reader.width} is not a multiple of {heads} query heads")
    return layers_of(reader, heads, heads, reader.width // heads)


def read_decoding_encoder(reader: Reader) -> list[Layer]:
    """BERT and related models as decoders (`is_decoder`)."""
    if not reader.raw.get("is_decoder"):
        raise ValueError(
            f"model_type {shown(reader.model_type)} is refused: it is an encoder, which keeps no cache, unless the "
            "file states is_decoder: true"
        )
    if reader.raw.get("add_cross_attention"):
        reader.refuse("add_cross_attention", "= true: it decodes beside an encoder that this file does not describe")
    return read_multi_head(reader)


def read_hrm(reader: Reader) -> list[Layer]:
    """HRM (arXiv:2506.21734): the layers of a stack run H_cycles x (L_cycles + 1) times for a token, each time with
    their own cache."""
    once = reader.n_layers
    n_layers = check_size("num_hidden_layers", reader.default("num_hidden_layers"), maximum=MAX_LAYERS)
    if n_layers != once:
        reader.note(f"the {once} layers run {n_layers // once} times for each token: {n_layers} caches")
    return [attention_layer(reader.n_heads, reader.n_heads, reader.head_dim())] * n_layers


def read_cpmant(reader: Reader) -> list[Layer]:
    """CPM-Ant: prompt_length learned positions come before every sequence and are cached with it."""
    heads = reader.n_heads
    layer = attention_layer(heads, heads, reader.head_dim("dim_head", "head_dim"))
    size = 2 * heads * layer.k_head_dim * reader.size("prompt_length")
    reader.note("the learned prompt's positions are counted as a part of fixed size")
    return [replace(layer, states=(*layer.states, FixedState(Role.BUFFER, size, n_heads=heads)))] * reader.n_layers


GROUPED_TYPES = (
    *("llama", "mistral", "mixtral", "ministral", "ministral3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
    *("gemma", "gemma2", "gemma3_text", "vaultgemma", "phi", "phi3", "phimoe", "phi4_multimodal"),
    *("cohere", "cohere2", "cohere2_moe", "olmo", "olmo2", "olmo3", "olmoe", "flex_olmo", "granite", "granitemoe"),
    *("granitemoeshared", "granite_swa", "granitemoe_swa", "starcoder2", "stablelm", "smollm3", "seed_oss", "arcee"),
    *("apertus", "afmoe", "ernie4_5", "ernie4_5_moe", "dots1", "glm", "glm4", "glm4_moe"),
    *("gpt_oss", "helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hyperclovax", "internlm3", "iquestcoder"),
    *("jais2", "llama4_text", "mellum", "minimax_m2", "nanochat", "nemotron", "solar_open", "bitnet", "cwm"),
    *("diffllama", "doge", "aria_text", "beam", "flint", "kolibri1"),
    *("qwen3_vl_text", "qwen3_vl_moe_text"),
    *("qwen3_omni_moe_text", "glm4v_text", "glm4v_moe_text", "glm_ocr_text", "ernie4_5_vl_moe_text"),
    *("emu3_text_model", "hunyuan_vl_text", "paddleocr_vl_text", "molmo2_text", "cosmos3_edge_text"),
    *(
        "granite4_vision_text",
        "granite_docling_text",
        "deepseek_ocr2_text",
        "cohere_compass_text",
        "muse_glimmer_text",
    ),
    *("muse_spark_text", "voxtral_realtime_text"),
)
MULTI_HEAD_TYPES = (
    *("gpt2", "gpt-sw3", "gptj", "gpt_neox", "gpt_neox_japanese", "opt", "bloom", "codegen"),
    *(
        "biogpt",
        "xglm",
        "persimmon",
        "ctrl",
        "git",
        "modernbert-decoder",
        "kosmos_2_text_model",
        "kosmos_2_5_text_model",
    ),
)
DECODING_ENCODERS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Encoders whose classes can also decode with a cache, if the file states is_decoder."""


def prepare_exaone(raw: dict[str, Any]) -> dict[str, Any]:
    """Published EXAONE fields with an explicit layer_types.

    Files write the pattern as text ("LLLG": three local layers, one global; the last layer is always global) or state
    a null window. transformers' class can derive the layers from neither.
    """
    n_layers = next((raw[name] for name in LAYERS if raw.get(name) is not None), None)
    if raw.get("layer_types") or n_layers is None:
        return raw
    pattern = raw.get("sliding_window_pattern")
    if raw.get("sliding_window") is None and "sliding_window" in raw:
        kinds = [FULL[0]] * n_layers
    elif isinstance(pattern, str):
        if not pattern or set(pattern) - {"L", "G"}:
            raise ValueError(f"sliding_window_pattern must hold L and G only, got {shown(pattern)}")
        kinds = [SLIDING[0] if pattern[i % len(pattern)] == "L" else FULL[0] for i in range(n_layers)]
        kinds[-1] = FULL[0]
    else:
        return raw
    rest = {name: value for name, value in raw.items() if name != "sliding_window_pattern"}
    return {**rest, "layer_types": kinds}


def _is_santacoder(part: Mapping[str, Any]) -> bool:
    """Whether a file is SantaCoder, which has the type GPT-2 but its own multi-query code."""
    return part.get("model_type") == "gpt2" and part.get("attention_head_type") == "multiquery"


ADAPTERS = {
    **{name: Adapter(read) for name in GROUPED_TYPES},
    **{name: Adapter(read_even_heads) for name in ("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text")},
    **{name: Adapter(read_multi_head, foreign=_is_santacoder) for name in MULTI_HEAD_TYPES},
    **{name: Adapter(read, prepare=prepare_exaone) for name in ("exaone4", "exaone_moe")},
    # composite models first published without a decoder part, and types whose code extends that of a known type
    **{name: Adapter(read_even_heads, class_type=f"{name}_text") for name in ("qwen2_vl", "qwen2_5_vl")},
    **{name: Adapter(read, class_type="phi3") for name in ("phi3_v", "phi4mm")},
    "qwen3_asr_text": Adapter(read, class_type="qwen3"),
    **{name: Adapter(read_decoding_encoder) for name in DECODING_ENCODERS},
    "hrm_text": Adapter(read_hrm),
    "cpmant": Adapter(read_cpmant),
}
