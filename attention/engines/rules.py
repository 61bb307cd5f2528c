"""Rules by which engines lay out a cache and print its size, as rows of data with source and version.

Layouts without a row here are refused. The modules of the engines (``vllm``, ``llama_cpp`` …) compute by these rules,
and the reports (``report``) name them beside the figures of a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from attention.catalog.sources import configuration
from attention.errors import shown
from attention.spec import FixedState, ModelSpec, Role

READ = ("vllm", "sglang", "llama.cpp", "tensorrt-llm")
"""Engines whose logs are read."""
NAMES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama.cpp": "llama.cpp",
    "tensorrt-llm": "TensorRT-LLM",
    "mlx": "MLX",
    "transformers": "transformers",
}
"""Engines with rules, and their names as shown."""


class Rule(NamedTuple):
    """One rule of an engine.

    Attributes:
        engine, name: together they are unique.
        says: the rule in a sentence.
        version: releases for which it is known from code, logs or answers; a year where no release is known.
        source: where the rule was found.
    """

    engine: str
    name: str
    says: str
    version: str
    source: str


_PLANNING = "vllm/v1/core/kv_cache_planning.py"
_INTERFACE = "vllm/v1/kv_cache_interface.py"
_KV = "ggml-org/llama.cpp src/llama-kv-cache.cpp"
_SGLANG = "sglang/srt/model_executor/model_runner_kv_cache_mixin.py"
_TENSORRT = "TensorRT-LLM docs/source/features/kvcache.md"
_MLX = "ml-explore/mlx-lm mlx_lm/models/cache.py"

RULES = (
    Rule("vllm", "blocks", "the pool is as many whole blocks as the memory holds", "V1", _PLANNING),
    Rule("vllm", "null block", "the check of the longest request holds one block back", "2026", _PLANNING),
    Rule("vllm", "smallest rank", "every rank takes the fewest blocks that any rank can hold", "V1", _PLANNING),
    Rule(
        "vllm",
        "groups",
        "layers of one kind are dealt into groups of equal size; groups draw blocks from one pool, so that places "
        "which a short group leaves empty are set aside too",
        "0.33, asked",
        f"{_PLANNING}, vllm #57431",
    ),
    Rule(
        "vllm",
        "one page size",
        "layers of smaller pages get larger blocks until all pages have the size of the largest; a page that does not "
        "divide it is padded",
        "0.9.2 to 0.33",
        _PLANNING,
    ),
    Rule(
        "vllm",
        "state page",
        "an attention block is enlarged until its page holds a layer's recurrent state, kernel − 1 columns of the "
        "convolution with it; the state is padded to that page",
        "2026",
        "vllm/platforms/interface.py, vllm #54458",
    ),
    Rule(
        "vllm",
        "window",
        "a windowed layer is counted as holding window − 1 and the tokens in flight, and one block more, at most the "
        "longest request",
        "V1",
        _INTERFACE,
    ),
    Rule(
        "vllm",
        "windows at full length",
        "without the hybrid manager windowed layers hold every token",
        "V1",
        f"{_INTERFACE}, hf-mem #60",
    ),
    Rule("vllm", "latent", "every rank holds the whole latent vector, once, not as K and V", "V1", _INTERFACE),
    Rule(
        "vllm",
        "fp8_ds_mla",
        "a latent of 512 + 64 takes 656 bytes: 512 in fp8, 4 fp32 scales, 64 in bf16; an indexer's key is fp8 with one "
        "fp32 scale",
        "2025 on",
        f"{_INTERFACE}, sglang #11309",
    ),
    Rule(
        "vllm",
        "nvfp4_ds_mla",
        "a latent of 512 + 64 takes 352 bytes; a fork (local-inference-lab) has a record of 432",
        "0.33",
        "vllm/model_executor/layers/attention/mla_attention.py",
    ),
    Rule(
        "vllm",
        "indexer",
        "an indexer's key is fp8 with an fp32 scale for 128 elements, whatever the cache's dtype; blocks of such "
        "a model hold 64 tokens",
        "0.33",
        "vllm/model_executor/models/deepseek_v2.py, vllm/v1/attention/backends/mla/indexer.py",
    ),
    Rule(
        "vllm", "fp32 in bf16", "a model stated in fp32 is run in bf16, its cache too", "0.33", "vllm/config/model.py"
    ),
    Rule(
        "vllm",
        "state dtype",
        "recurrent states of Kimi Linear, Nemotron-H and Qwen3.5 are in fp32, those of others in the model's dtype",
        "0.33",
        "vllm/model_executor/models/config.py, layers/mamba/mamba_utils.py",
    ),
    Rule(
        "vllm",
        "states alone",
        "a model of recurrent states alone has blocks of one sequence, whatever its length",
        "0.33, asked",
        _INTERFACE,
    ),
    Rule(
        "vllm",
        "decode context parallelism",
        "a request's tokens are dealt out among the ranks, each of which holds the copies of its heads",
        "0.33",
        _INTERFACE,
    ),
    Rule("vllm", "scale per token and head", "8 bits an element and one fp32 scale a head", "2026", "vllm #39008"),
    Rule("vllm", "nvfp4", "4 bits an element and one E4M3 scale for 16", "2026", _INTERFACE),
    Rule(
        "vllm",
        "tokens by groups",
        "tokens printed are blocks ÷ groups × the smallest block",
        "to 0.20",
        "hf-mem #61, vllm #43308",
    ),
    Rule(
        "vllm",
        "tokens by concurrency",
        "tokens printed are the concurrency times the longest request, not bytes ÷ bytes per token",
        "0.21 to 0.33",
        "vllm #43308, #51041, #54662",
    ),
    Rule(
        "llama.cpp",
        "cells",
        "cells are padded to 256, for each sequence unless unified",
        "since #17046, October 2026 asked",
        "llama-context.cpp",
    ),
    Rule("llama.cpp", "size", "K and V are layers × cells rows of whole type blocks", "all", _KV),
    Rule(
        "llama.cpp",
        "whole blocks",
        "a type of K or V is refused whose blocks are no whole number in a head",
        "October 2026 asked",
        "llama-context.cpp",
    ),
    Rule(
        "llama.cpp",
        "window",
        "windowed layers hold n_swa (for every sequence when unified) and n_ubatch cells, padded to 256, at most those "
        "of the other layers; all of those with --swa-full",
        "since #13194, October 2026 asked",
        "llama-kv-cache-iswa.cpp, llama.cpp #13194",
    ),
    Rule("llama.cpp", "latent", "K holds the latent and its RoPE part; there is no V", "since #19067", _KV),
    Rule("llama.cpp", "latent as K and V", "the latent is kept as V once more", "#12801 to #19067", _KV),
    Rule(
        "llama.cpp",
        "recurrent",
        "R is kernel − 1 columns of the convolution, S the recurrent state, both in fp32, a row for each sequence",
        "2026",
        "llama-memory-recurrent.cpp, genie-claw #410",
    ),
    Rule(
        "llama.cpp",
        "kept states",
        "beside a draft a sequence has rs_seq rows more, older states to go back to when drafted tokens are refused",
        "September 2026",
        "start-up lines of Qwen3.8-27B with its MTP layer: 448.88 and 1047.38 MiB",
    ),
    Rule("llama.cpp", "MB", "MB in old lines is 2^20 bytes", "2023", "llama-cpp-python #66"),
    Rule(
        "sglang",
        "slots",
        "a token takes a slot in every layer; slots are dealt out in pages",
        "0.5.23, asked",
        "sglang/srt/model_executor/pool_configurator.py (DefaultPoolConfigurator)",
    ),
    Rule(
        "sglang",
        "shared layers",
        "a layer that reads another layer's cache has slots of its own all the same",
        "2026",
        f"{_SGLANG}; a log of gemma-4-E4B-it: 79.94 GB",
    ),
    Rule(
        "sglang", "dummy page", "the buffers hold one page more than is printed", "2025 on", "mem_cache/memory_pool.py"
    ),
    Rule("sglang", "GB", "GB in its lines is 2^30 bytes", "2025 on", "mem_cache/memory_pool.py, vllm #21348"),
    Rule(
        "sglang",
        "windowed pool",
        "Llama 4, gpt-oss, MiMo-V2, Step 3.5 and Gemma 4 keep windowed layers in a pool of their own, of "
        "swa_full_tokens_ratio (0.8) times the other layers' slots; a request holds the window, or a page if that is "
        "longer; windowed layers of other models hold every token",
        "2026",
        f"{_SGLANG}, configs/model_config.py, sglang #18039",
    ),
    Rule(
        "sglang",
        "state slots",
        "recurrent states have a pool of mamba_full_memory_ratio (0.9) times the memory of tokens, kernel − 1 columns "
        "of the convolution in the model's dtype and the state in fp32; one slot that holds nothing is counted in (not "
        "yet in early 2026); a running request needs one slot, up to five are set aside for it with the prefix cache",
        "0.5.23, asked",
        "sglang/srt/mem_cache/kv_cache_configurator.py (_handle_max_mamba_cache), sglang #15337",
    ),
    Rule(
        "sglang",
        "latent",
        "the latent is kept once on every rank; beside an indexer fp8 is a record of 656 bytes, and the indexer's key "
        "takes 132",
        "2025 on",
        f"{_SGLANG}, sglang #11309",
    ),
    Rule("tensorrt-llm", "blocks", "blocks of 32 tokens (64 until 2025), all layers in one", "1.0 on", _TENSORRT),
    Rule(
        "tensorrt-llm",
        "windows",
        "a pool for each window; blocks that leave the window are freed",
        "KVCacheManagerV2, 2026",
        _TENSORRT,
    ),
    Rule(
        "tensorrt-llm",
        "latent",
        "the latent and its RoPE part are kept once, not as K and V",
        "1.0 on",
        "_torch/pyexecutor/resource_manager.py",
    ),
    Rule("tensorrt-llm", "heads", "K/V heads ÷ ranks, rounded up", "1.0 on", "_torch/pyexecutor/resource_manager.py"),
    Rule("mlx", "steps", "a layer's buffer grows by 256 positions", "0.30", _MLX),
    Rule("mlx", "ring", "a windowed layer holds at most its window once it decodes", "0.30", _MLX),
    Rule("mlx", "scale and bias", "a group has a 16-bit scale and a 16-bit bias", "0.30", _MLX),
    Rule(
        "transformers",
        "dynamic cache",
        "what the layers return, a window less its newest position; Falcon's K/V heads copied to every query head",
        "5.23, asked",
        "python -m attention verify",
    ),
)


def rule(engine: str, name: str) -> Rule:
    """The rule of an engine with this name.

    Raises:
        StopIteration: there is no such rule.
    """
    return next(row for row in RULES if (row.engine, row.name) == (engine, name))


_KERNELS = (
    "mamba_d_conv",
    "conv_kernel",
    "linear_conv_kernel_dim",
    "conv_L_cache",
    "conv_kernel_size",
    "short_conv_kernel_size",
    "d_conv",
)
_PARTS = ("text_config", "llm_config", "linear_attn_config")


def conv_kernel(config: Mapping[str, Any] | None) -> int | None:
    """The columns of the convolution kernel that a configuration states, None where it states none."""
    config = config or {}
    parts = [config, *(config[key] for key in _PARTS if isinstance(config.get(key), dict))]
    found = [part[name] for part in parts for name in _KERNELS if isinstance(part.get(name), int)]
    return found[0] if found else None


def kernel_of(spec: ModelSpec, source: str) -> int | None:
    """The columns of the convolution kernel of the model that `source` names (see ``catalog.sources``); None if the
    model keeps no state of fixed size or states no kernel.

    Raises:
        ValueError: as in ``catalog.sources.configuration``.
    """
    fixed = any(isinstance(state, FixedState) for layer, _ in spec.groups for state in layer.states)
    return conv_kernel(configuration(source)) if fixed else None


def without_newest_column(state: FixedState, kernel: int | None) -> int:
    """Elements of a convolution's state as engines keep it, which is one column less than transformers keeps.

    Raises:
        ValueError: the kernel is not known, or does not divide the elements that transformers keeps.
    """
    if kernel is None:
        raise ValueError("the kernel of the model's convolution is not known, so neither is the engine's state of it")
    if kernel < 2 or state.elements % kernel:
        raise ValueError(
            f"a kernel of {shown(kernel)} does not divide a convolution state of {state.elements:,} elements"
        )
    return state.elements // kernel * (kernel - 1)


def refuse_roles(engine: str, spec: ModelSpec, known: tuple[Role, ...]) -> None:
    """Refuse a model with states for which no rule of this engine is known.

    Raises:
        ValueError: some state has a role that is not in `known`.
    """
    for layer, _ in spec.groups:
        for state in layer.states:
            if state.role not in known:
                raise ValueError(f"how {engine} lays out {state.role} is not known here")
