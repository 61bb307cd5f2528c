"""Reads the start-up lines of vLLM, SGLang, llama.cpp and TensorRT-LLM for the figures that ``report`` explains.

Only what the patterns below match is kept: numbers, words of a known list, and the name of the model, which is looked
up and never shown. Nothing else of the text leaves this module, so a secret in a log stays secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from attention.engines.llama_cpp import TYPES
from attention.engines.vllm_layers import KV_DTYPES

MAX_BYTES = 10_000_000
MAX_FIGURES = 4096
"""Most figures of one kind; further figures are not read."""
MAX_EXPLAINED = 100
"""Most different figures of one kind that are explained. A start of many ranks prints fewer, and each explanation takes
some milliseconds."""
_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)")
_END = r"(?=\.?[\s,;)}\]'\"])"
"""Follows a number that is complete: the end of a log can cut a number off, and such a number is not read."""
_N = r"(\d{1,12})"
_GIB = r"(\d{1,6}\.\d{1,4}) ?Gi?B"
_COMMA = r"(\d{1,3}(?:,\d{3}){0,4}|\d{1,12})"
_TYPE = r"(\w{1,12})"
_MIB = r"(\d{1,9}\.\d{2}) Mi?B"
_S = r"\s{0,9}"
_SET = r"['\"]?\s{0,12}[=:]\s{0,12}['\"]?"

_VLLM = {
    "memory": rf"Available KV cache memory: {_GIB}",
    "tokens": rf"GPU KV cache size: {_COMMA} tokens",
    "concurrency": rf"Maximum concurrency for {_COMMA} tokens per request: (\d{{1,9}}\.\d\d)x",
    "blocks": rf"GPU blocks: {_N}{_END}",
    "needed": rf"max seq len \({_N}\), \({_GIB} KV cache is needed, which is larger than the available KV cache memory "
    rf"\({_GIB}\)\.(?: Based on the available memory, the estimated maximum model length is {_N}\.)?",
}
_LLAMA = {
    "kv": rf"size\s{{0,4}}={_S}{_MIB}(?: \({_S}{_N} cells,{_S}{_N} layers,{_S}{_N}(?:/{_S}{_N})? seqs\))?,"
    rf"{_S}K \({_TYPE}\):{_S}{_MIB},{_S}V \({_TYPE}\):{_S}{_MIB}",
    "recurrent": rf"size\s{{0,4}}={_S}{_MIB} \({_S}{_N} cells,{_S}{_N} layers,{_S}{_N} seqs(?:{_S}{_N} rs_seq)?"
    rf"[^)\n]{{0,20}}\),{_S}R \(f32\):{_S}{_MIB},{_S}S \(f32\):{_S}{_MIB}",
    "self": rf"kv self size\s{{1,4}}=\s{{0,8}}{_MIB}",
    "window cells": rf"creating\s{{1,8}}SWA KV cache, size = {_N} cells",
    "cells": rf"creating non-SWA KV cache, size = {_N} cells",
    "buffer": rf"KV buffer size\s{{0,4}}=\s{{0,8}}{_MIB}",
}
_GB = r"(\d{1,6}\.\d{2}) ?GB"
_SGLANG = {
    "kv": rf"KV Cache is allocated\. (?:dtype: torch\.\w{{1,20}}, )?#tokens: {_N}, K size: {_GB}, V size: {_GB}",
    "latent": rf"KV Cache is allocated\. (?:dtype: torch\.\w{{1,20}}, )?#tokens: {_N}, KV size: {_GB}",
    "pools": rf"SWAKVPool mem usage: {_GB}, swa size: {_N}, full size: {_N}{_END}",
    "pool tokens": rf"full_layer_tokens={_N}, swa_layer_tokens={_N}{_END}",
    "states": rf"max_mamba_cache_size: {_N}, conv_state size: {_GB}, ssm_state size: {_GB}",
    "tokens": rf"max_total_num_tokens={_N}{_END}",
}
_TENSORRT = {
    "allocated": rf"Allocated {_GIB} for max tokens in paged KV cache \({_N}\)",
    "blocks": rf"Number of blocks in KV cache primary pool: {_N}{_END}",
    "bytes": rf"Allocate (\d{{1,15}}) bytes for k/v cache[^\n]{{0,20}}\n[^\n]{{0,80}}Using {_N} tokens in paged",
    "token": rf"kv size is {_N}{_END}",
    "available": rf"max tokens in paged kv cache: total: {_GIB}, available: {_GIB}",
}
_TENSORRT_SETTINGS = {
    "block_tokens": rf"(?:Number of tokens per block: {_N}\.|\btokens_per_block{_SET}{_N}{_END})",
    "tp": rf"\b(?:tensor_parallel_size|tp_size){_SET}{_N}{_END}",
    "kv_dtype": rf"\bkv_cache_dtype{_SET}(\w{{1,40}}){_END}",
}
_SGLANG_SETTINGS = {
    "tp": rf"\btp_size{_SET}{_N}{_END}",
    "dp_attention": r"\benable_dp_attention=(True)\b",
    "page": rf"\bpage_size{_SET}{_N}{_END}",
    "kv_dtype": rf"(?:\bkv_cache_dtype{_SET}(\w{{1,40}}){_END}|Using KV cache dtype: torch\.(\w{{1,40}}){_END})",
    "dtype": r"\bdtype=torch\.(bfloat16|float16|float32)\b",
    "rank": r"\bTP(\d{1,4})\]",
}
_VLLM_SETTINGS = {
    "max_model_len": rf"(?:max_model_len|max_seq_len|max-model-len){_SET}{_N}{_END}",
    "block_tokens": rf"(?:Setting attention block size to {_N} tokens|block_size{_SET}{_N}{_END})",
    "in_flight": rf"max_num_batched_tokens{_SET}{_N}{_END}",
    "tp": rf"tensor_parallel_size{_SET}{_N}{_END}",
    "pp": rf"pipeline_parallel_size{_SET}{_N}{_END}",
    "dcp": rf"decode_context_parallel_size{_SET}{_N}{_END}",
    "kv_dtype": rf"(?:kv_cache_dtype{_SET}(\w{{1,40}}){_END}|Using (\w{{1,40}}) data type to store kv cache)",
    "dtype": r"\bdtype=torch\.(bfloat16|float16|float32)\b",
    "no_hybrid": r"(Hybrid KV cache manager is disabled)",
    "speculative": r"num_speculative_tokens\W{1,8}(\d{1,4})(?=\D)",
    "align": r"mamba_cache_mode\W{1,8}(align)\b",
}
_LLAMA_SETTINGS = {
    "n_ctx": rf"\bn_ctx[ \t]{{0,30}}= {{0,4}}{_N}{_END}",
    "n_ubatch": rf"\bn_ubatch[ \t]{{0,30}}= {{0,4}}{_N}{_END}",
    "n_seq_max": rf"\bn_seq_max[ \t]{{0,30}}= {{0,4}}{_N}{_END}",
    "unified": r"\bkv_unified[ \t]{0,30}= '?(true|false)\b",
    "flash_attn": r"\bflash_attn[ \t]{0,30}= {0,4}(auto|enabled|disabled|[01])\b",
    "swa_full": r"(using full-size SWA cache)",
    "type_k": rf"\btype_k = '{_TYPE}'",
    "type_v": rf"\btype_v = '{_TYPE}'",
    "n_layer": rf"\bn_layer[ \t]{{0,30}}= {_N}{_END}",
    "n_head": rf"\bn_head[ \t]{{0,30}}= {_N}{_END}",
    "n_head_kv": rf"\bn_head_kv[ \t]{{0,30}}= {_N}{_END}",
    "k_head_dim": rf"\bn_embd_head_k[ \t]{{0,30}}= {_N}{_END}",
    "v_head_dim": rf"\bn_embd_head_v[ \t]{{0,30}}= {_N}{_END}",
    "n_swa": rf"\bn_swa[ \t]{{0,30}}= {_N}{_END}",
    "d_state": rf"\bssm_d_state[ \t]{{0,30}}= {_N}{_END}",
    "arch": r"\barch[ \t]{0,30}= (deepseek2|llama|qwen2|qwen3|qwen3moe|mistral3?|gemma[234n]?)\b",
}
_NAMES = (
    r"\bmodel(?:_path)?='([^'\n]{1,300})'",
    r"'model(?:_tag)?': '([^'\n]{1,300})'",
    r"\btrtllm-serve for model ([\w./-]{1,200})",
    r"/(models--[\w.-]{1,200})/snapshots/",
    r"\bgeneral\.name\s{0,8}(?:str\s{1,20})?= ([^\n]{1,200}?)\s{0,20}\n",
)
_MODELS = re.compile(r"models--([\w.-]{1,96}?)--([\w.-]{1,96})")
_VERSION = {
    "vllm": re.compile(
        r"(?:vLLM API server version|LLM engine \(v?|vLLM version:?) ?v?(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)"
    ),
    "sglang": re.compile(r"\bsglang[ =_-]{0,9}(?:version[ =:]{1,3})?v?(\d{1,3}\.\d{1,3}\.\d{1,3})"),
    "llama.cpp": re.compile(r"\bbuild: (\d{1,6}) \("),
    "tensorrt-llm": re.compile(r"TensorRT-LLM version: (\d{1,3}\.\d{1,3}\.\d{1,3})"),
}
_SIGNS = {
    "sglang": re.compile(
        r"KV Cache is allocated\.|SWAKVPool|Mamba Cache is allocated|sglang|full_layer_tokens=|max_total_num_tokens="
    ),
    "vllm": re.compile(r"vLLM|vllm|GPU KV cache size:|Available KV cache memory:"),
    "llama.cpp": re.compile(
        r"llama_(?:kv_cache|context|new_context|memory|model|init)|llm_load_print_meta|print_info:"
    ),
    "tensorrt-llm": re.compile(r"\[TensorRT-LLM\]|\[TRT-LLM\]|trtllm-serve|in paged KV cache \("),
}
_PATTERNS = {
    "vllm": (_VLLM, _VLLM_SETTINGS),
    "sglang": (_SGLANG, _SGLANG_SETTINGS),
    "llama.cpp": (_LLAMA, _LLAMA_SETTINGS),
    "tensorrt-llm": (_TENSORRT, _TENSORRT_SETTINGS),
}
UNKNOWN = "unknown"
"""Stands for a word that is on no list here; the printed word itself is not kept."""
SGLANG_DTYPES = {
    "auto": None, "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32",
    "fp8_e5m2": "fp8", "fp8_e4m3": "fp8", "float8_e5m2": "fp8", "float8_e4m3fn": "fp8",
}  # fmt: skip
"""The format for each of SGLang's words for the cache's dtype; None: the model's dtype."""
_WORDS: dict[str, Collection[str]] = {"kv_dtype": {*KV_DTYPES, *SGLANG_DTYPES}, "type_k": TYPES, "type_v": TYPES}


_RANK = ("rank",)
"""Settings that differ from rank to rank, and that every rank writes."""


class Seen(NamedTuple):
    """A figure as printed.

    Attributes:
        kind: a key of the patterns; values: the groups of the pattern, None where a part is not printed.
    """

    kind: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Log:
    """What was recognised in a log.

    Attributes:
        engine: one of ``rules.READ``; version: its version, None where no line states it.
        settings: the last printed value of each setting, by name.
        conflicting: settings of which several values were printed.
        figures: all figures, in the order of the log.
        names: possible names of the model, to be looked up and never shown.
    """

    engine: str
    version: str | None
    settings: dict[str, str]
    conflicting: tuple[str, ...]
    figures: tuple[Seen, ...]
    names: tuple[str, ...] = field(repr=False)

    def seen(self, kind: str) -> list[tuple[str | None, ...]]:
        """The values of all figures of a kind, in the order of the log."""
        return [figure.values for figure in self.figures if figure.kind == kind]

    def distinct(self, kind: str) -> list[tuple[str | None, ...]]:
        """The different values of the figures of a kind, at most MAX_EXPLAINED of them."""
        return list(dict.fromkeys(self.seen(kind)))[:MAX_EXPLAINED]


def read(raw: bytes) -> Log:
    """The figures and settings of a log.

    Raises:
        ValueError: more than MAX_BYTES, or no start-up line of one of the engines is in it.
    """
    if len(raw) > MAX_BYTES:
        raise ValueError(f"a log may have at most {MAX_BYTES:,} bytes; its start-up lines are enough")
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = _COLOUR.sub("", raw.decode("utf-16" if wide else "utf-8", errors="replace"))
    engine = _engine(text)
    figures, settings = _PATTERNS[engine]
    found = [
        (match.start(), Seen(kind, _known(engine, kind, match.groups())))
        for kind, pattern in figures.items()
        for match, _ in zip(re.finditer(pattern, text), range(MAX_FIGURES), strict=False)
    ]
    said: dict[str, list[str]] = {}
    for name, pattern in settings.items():
        for match, _ in zip(re.finditer(pattern, text), range(MAX_FIGURES), strict=False):
            said.setdefault(name, []).append(next(group for group in match.groups() if group is not None))
    for name, known in _WORDS.items():
        said |= {name: [value if value in known else UNKNOWN for value in said[name]]} if name in said else {}
    version = _VERSION[engine].search(text)
    return Log(
        engine,
        version[1] if version else None,
        {name: values[-1] for name, values in said.items() if name not in _RANK} | _ranks(said),
        tuple(name for name, values in said.items() if len(set(values)) > 1 and name not in _RANK),
        tuple(seen for _, seen in sorted(found, key=lambda pair: pair[0])),
        _names(text),
    )


def _ranks(said: dict[str, list[str]]) -> dict[str, str]:
    """The number of ranks that wrote lines, as a setting; {} where no line states its rank."""
    return {"ranks": str(max(map(int, said["rank"])) + 1)} if "rank" in said else {}


def _known(engine: str, kind: str, values: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The values, with UNKNOWN in place of types of K and V that are on no list."""
    if (engine, kind) != ("llama.cpp", "kv"):
        return values
    return tuple(UNKNOWN if i in (5, 7) and value not in TYPES else value for i, value in enumerate(values))


def _engine(text: str) -> str:
    counts = {engine: sum(1 for _ in signs.finditer(text)) for engine, signs in _SIGNS.items()}
    if any(counts.values()):
        return max(counts, key=lambda engine: counts[engine])
    raise ValueError("no start-up line of vLLM, SGLang, llama.cpp or TensorRT-LLM is in this log")


def _names(text: str) -> tuple[str, ...]:
    """Names by which the model may be found, the most likely first: the last parts of each printed name, and shorter
    forms of them."""
    found: dict[str, None] = {}
    for pattern in _NAMES:
        for match, _ in zip(re.finditer(pattern, text), range(16), strict=False):
            name = match[1]
            if hub := _MODELS.search(name):
                found[f"{hub[1]}/{hub[2]}"] = None
            parts = [part for part in re.split(r"[/\\]", name) if part]
            for tail in ("/".join(parts[-2:]), parts[-1] if parts else ""):
                found |= dict.fromkeys(_shorter(tail))
    return tuple(found)


_SUFFIX = re.compile(
    r"[-_ .](?:fp8|awq|gptq|int[48]|[48]bit|bnb|gguf|nvfp4|mxfp4|w\d+a\d+|quantized|dynamic|bf16|f16|i?q\d\w*|k_[sml]|"
    r"instruct|chat|it|base|\d{4})$",
    re.IGNORECASE,
)


def _shorter(name: str) -> list[str]:
    """A name, then the name without endings that do not decide the cache, then the names of the base model."""
    names = [name]
    while (shorter := _SUFFIX.sub("", names[-1])) != names[-1] and shorter:
        names.append(shorter)
    names += [re.sub("instruct", "Base", text, flags=re.IGNORECASE) for text in names if "instruct" in text.lower()]
    return [*names, *(text.replace(" ", "-") for text in names if " " in text)]
