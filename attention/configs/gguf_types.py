"""Architectures of GGUF files: the model_type as which each is read, or the reason why it is refused.

Source: ggml-org/llama.cpp, ``LLM_ARCH_NAMES`` in ``src/llama-arch.cpp`` and ``create_memory`` in
``src/llama-model.cpp`` (autumn 2026). Where a type's own adapter cannot express what a header states, the layers are
read one by one (`families/by_layer`), as llama.cpp reads all architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.configs.families.ordinary import FULL
from attention.errors import shown

SHARED = "attention.shared_kv_layers"
TYPES = {
    **{name: name for name in ("llama", "qwen2", "qwen3", "phi3", "phimoe", "gemma", "gemma2", "gpt2", "bloom")},
    **{name: name for name in ("falcon", "starcoder2", "cohere2", "olmo", "olmo2", "olmoe", "granite", "granitemoe")},
    **{name: name for name in ("granite_swa", "smollm3", "stablelm", "nemotron", "glm4", "ernie4_5", "dots1", "arcee")},
    **{
        name: name for name in ("afmoe", "apertus", "seed_oss", "exaone", "exaone4", "internlm2", "minicpm", "baichuan")
    },
    **{name: name for name in ("qwen", "deepseek", "jais2", "bitnet", "mellum", "hy_v3")},
    **{"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "qwen2vl": "qwen2_vl_text", "qwen3vl": "qwen3_vl_text"},
    **{"qwen3vlmoe": "qwen3_vl_moe_text", "phi2": "phi", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text"},
    **{"gemma4": "gemma4_text", "gptneox": "gpt_neox", "starcoder": "gpt_bigcode", "command-r": "cohere"},
    **{"cohere2moe": "cohere2_moe", "glm4moe": "glm4_moe", "ernie4_5-moe": "ernie4_5_moe", "mistral3": "ministral3"},
    **{"minimax-m2": "minimax_m2", "hunyuan-dense": "hunyuan_v1_dense", "hunyuan-moe": "hunyuan_v1_moe"},
    **{"exaone-moe": "exaone_moe", "bailingmoe": "bailing_moe", "llama4": "llama4_text", "gpt-oss": "gpt_oss"},
    "muse-glimmer": "muse_glimmer_text",
}
BY_LAYER = frozenset(
    (
        *(
            "deci",
            "openelm",
            "xverse",
            "orion",
            "dbrx",
            "arctic",
            "grok",
            "codeshell",
            "refact",
            "plamo",
            "plamo3",
            "mpt",
        ),
        *(
            "pangu-embedded",
            "maincoder",
            "grovemoe",
            "bailingmoe2",
            "smallthinker",
            "jais",
            "mimo2",
            "step35",
            "laguna",
        ),
        *("spark2_5", "maple", "chatglm", "deepseek2-ocr", "chameleon", "cogvlm", "talkie", "paddleocr", "hunyuan_vl"),
    )
)
LATENT = {"deepseek2": "deepseek_v2", "deepseek32": "deepseek_v32", "glm-dsa": "glm_moe_dsa", "mistral4": "mistral4"}
INDEXED = frozenset(("deepseek32", "glm-dsa"))
CONVOLVED = {"lfm2": "lfm2", "lfm2moe": "lfm2_moe"}
DELTA = {"qwen3next": "qwen3_next", "qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text"}

WEIGHTS = {
    "vocab_size": ("vocab_size",),
    "feed_forward_length": ("intermediate_size",),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_shared_count": ("n_shared_experts",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "leading_dense_block_count": ("first_k_dense_replace",),
}
"""The names that classes have for each size of the weights."""
EXPERTS_ALONE = frozenset(("gpt-oss", "granitemoe", "minimax-m2"))
"""Architectures whose intermediate_size is the size of an expert."""

_INSTEAD = "is not read from a GGUF here; give the model's config.json"
REFUSED = {
    **dict.fromkeys(
        (
            *(
                "bert",
                "modern-bert",
                "nomic-bert",
                "nomic-bert-moe",
                "neo-bert",
                "jina-bert-v2",
                "jina-bert-v3",
                "eurobert",
            ),
            *("gemma-embedding", "llama-embed", "t5encoder"),
        ),
        "it is an encoder, which keeps no cache",
    ),
    **dict.fromkeys(
        ("dream", "llada", "llada-moe", "rnd1"), "it writes by diffusion, and llama.cpp keeps no cache for it"
    ),
    **dict.fromkeys(
        (
            *("mamba", "mamba2", "jamba", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe", "plamo2"),
            *("kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next", "minimax-01", "qwen4exp"),
        ),
        f"what its recurrent layers keep {_INSTEAD}",
    ),
    **dict.fromkeys(
        ("rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7"),
        "it has no keys and values at all, and its recurrent state is not described here",
    ),
    **dict.fromkeys(
        ("deepseek4", "minimax-m3", "dots3note", "hy_v4", "minicpm3", "plm"),
        f"its compressed or indexed attention {_INSTEAD}",
    ),
    **dict.fromkeys(("eagle3", "dflash", "gemma4-assistant"), "it drafts for another model; give that model's file"),
    **dict.fromkeys(
        ("wavtokenizer-dec", "qwen3tts", "pockettts"), "it writes audio, and what it keeps is not described here"
    ),
    **dict.fromkeys(("nanbeige", "hrm_text"), f"its layers run several times for each token, which {_INSTEAD}"),
    "graniteswitch": f"the layer that chooses its adapters {_INSTEAD}",
    "clip": "it is the projector of images or sound beside a model, and has no cache",
    "gptj": "llama.cpp has a name for it and no code",
    "t5": f"the cache of an encoder-decoder {_INSTEAD}",
}
_MULTI_HEAD = frozenset(("gpt2", "bloom", "gpt_neox", "baichuan", "qwen", "qwen2_vl_text", "falcon", "gpt_bigcode"))
"""Types whose head size is always width over query heads. All but Qwen2-VL, Falcon and GPT-BigCode have as many K/V
heads as query heads."""


def check(arch: str) -> None:
    """Refuse an architecture that is not read.

    Raises:
        ValueError: with the reason.
    """
    if arch in REFUSED:
        raise ValueError(f"general.architecture {shown(arch)} is refused: {REFUSED[arch]}")
    if not any(arch in known for known in (TYPES, BY_LAYER, LATENT, CONVOLVED, DELTA)):
        raise ValueError(
            f"general.architecture {shown(arch)} is not known: how it caches is not described here, "
            "and a guess could be wrong"
        )


def of(arch: str, get: Callable[[str], Any], window: int | None) -> str | None:
    """The model_type as which an architecture is read; None where its layers are read one by one.

    Args:
        get: gives the value of a key without the architecture's prefix; window: the window of the layers, if any.
    """
    if arch == "llama" and get("expert_count"):
        return "mixtral"
    if arch == "olmo2" and window is not None:
        return "olmo3"
    return TYPES.get(arch)


def fields(
    arch: str, model_type: str | None, heads: int, kv: int, head_dim: int, width: int, n_layers: int
) -> dict[str, Any] | None:
    """The fields of equal layers in the names of `model_type`; None if that type cannot have such layers."""
    if model_type is None:
        return None
    out = {"model_type": model_type, "num_attention_heads": heads, "head_dim": head_dim, "num_key_value_heads": kv}
    if model_type in _MULTI_HEAD:
        if head_dim * heads != width:
            return None
        del out["head_dim"]
        if model_type == "falcon":
            return {**out, "num_kv_heads": kv, "multi_query": kv == 1, "new_decoder_architecture": 1 < kv < heads}
        if model_type == "gpt_bigcode":
            return {**out, "multi_query": kv == 1} if kv in (1, heads) else None
        if model_type != "qwen2_vl_text" and kv != heads:
            return None
    if model_type == "gemma3n_text":  # llama.cpp: the layers after the 20th have no cache of their own
        out["num_kv_shared_layers"] = max(0, n_layers - 20)
    return out


def gemma4(heads: int, kv: list[int], head_dims: tuple[int, int], kinds: list[str], shared: int) -> dict[str, Any]:
    """The fields of Gemma 4, whose full layers have another number and size of K/V heads than its sliding layers.

    Args:
        heads: query heads; kv: K/V heads of each layer; head_dims: head size of full layers, of sliding layers.
        kinds: the kind of each layer; shared: layers at the end that read the cache of earlier layers.

    Raises:
        ValueError: layers of one kind differ in their K/V heads.
    """
    by_kind = {
        kind in FULL: {n for n, k in zip(kv, kinds, strict=True) if (k in FULL) == (kind in FULL)} for kind in kinds
    }
    if any(len(counts) > 1 for counts in by_kind.values()):
        raise ValueError(f"gemma4.attention.head_count_kv must be one number for layers of one kind, got {shown(kv)}")
    full, sliding = (min(by_kind.get(is_full) or by_kind[not is_full]) for is_full in (True, False))
    return {
        **{"model_type": "gemma4_text", "num_attention_heads": heads, "num_key_value_heads": sliding},
        **{"num_global_key_value_heads": full, "attention_k_eq_v": full != sliding},
        **{"global_head_dim": head_dims[0], "head_dim": head_dims[1], "num_kv_shared_layers": shared},
    }
