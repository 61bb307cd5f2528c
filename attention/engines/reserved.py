"""What each engine sets aside for some requests on one accelerator: exact bytes, or the reason why they are not
known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attention.engines import llama_cpp, mlx, own_code, sglang, tensorrt_llm, vllm
from attention.engines.rules import NAMES
from attention.memory.load import Load
from attention.memory.terms import remembered
from attention.spec import ModelSpec, PositionState, Role
from attention.units import counted

VLLM_FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp8": "fp8"}
LLAMA_TYPES = {"fp32": "f32", "fp16": "f16"}
"""llama.cpp's names for formats that have other names here."""


class Reserved(NamedTuple):
    """What one engine sets aside.

    Attributes:
        engine: a key of ``rules.NAMES``.
        n_bytes: bytes for all requests together, None where no rule is known.
        says: how the bytes are made up, or why they are not known.
        rules: names of the rules in ``rules.RULES`` by which they are computed.
    """

    engine: str
    n_bytes: int | None
    says: str
    rules: tuple[str, ...] = ()


class _Profile(NamedTuple):
    """One engine's rules for one model and format; `n_bytes` and `says` take a load with that format."""

    n_bytes: Callable[[Load], int]
    says: Callable[[Load], str]
    rules: tuple[str, ...]


def reserved(engine: str, spec: ModelSpec, load: Load, conv_kernel: int | None = None) -> Reserved:
    """What `engine`, with its default settings, sets aside on one accelerator for ``load.batch`` requests of
    ``load.context`` tokens in the load's format.

    Args:
        conv_kernel: columns of the model's convolution, see ``rules.kernel_of``.
    """
    profile = _profile(engine, spec, load.kv_dtype, conv_kernel)
    if isinstance(profile, str):
        return Reserved(engine, None, profile)
    try:
        return Reserved(engine, profile.n_bytes(load), profile.says(load), profile.rules)
    except ValueError as error:  # the engine does not accept this load
        return Reserved(engine, None, str(error))


def reserved_bytes(engine: str, spec: ModelSpec, load: Load, conv_kernel: int | None = None) -> int | None:
    """The bytes of :func:`reserved` alone, which is faster for many loads. None where no rule is known.

    Raises:
        ValueError: a load that the engine does not accept.
    """
    profile = _profile(engine, spec, load.kv_dtype, conv_kernel)
    return None if isinstance(profile, str) else profile.n_bytes(load)


def everywhere(spec: ModelSpec, load: Load, conv_kernel: int | None = None) -> tuple[Reserved, ...]:
    """:func:`reserved` for every engine, in the order of ``rules.NAMES``."""
    return tuple(reserved(engine, spec, load, conv_kernel) for engine in NAMES)


def _profile(engine: str, spec: ModelSpec, kv_dtype: str, conv_kernel: int | None) -> _Profile | str:
    """The engine's rules, or why there are none."""

    def make() -> _Profile | str:
        try:
            return _PROFILES[engine](spec, kv_dtype, conv_kernel)
        except ValueError as error:
            return str(error)

    return remembered(spec, ("profile", engine, kv_dtype, conv_kernel), make)


def _vllm(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    if kv_dtype not in VLLM_FORMATS:
        raise ValueError(f"vLLM has no cache format that stores {kv_dtype} as it is counted here")
    plan = vllm.plan(spec, vllm.Settings(kv_dtype=VLLM_FORMATS[kv_dtype], conv_kernel=kernel))
    kinds = {group.kind for group in plan.groups}
    words = f" of {plan.block_bytes:,} bytes a request"
    words += f", in {counted(len(plan.groups), 'group')}" * (len(plan.groups) > 1)
    words += f", windows with {plan.settings.in_flight:,} tokens in flight" * bool(kinds & {"window", "chunk"})
    words += f", recurrent states in {spec.model_dtype}" * ("state" in kinds)
    rules = ["blocks"] + ["groups"] * (len(plan.groups) > 1) + ["window"] * ("window" in kinds)
    rules += ["one page size"] * (len({group.block_tokens for group in plan.groups}) > 1)
    rules += ["state page"] * ("state" in kinds) + ["latent"] * _has(spec, Role.LATENT)
    return _Profile(
        lambda load: load.batch * plan.request_blocks(load.context) * plan.block_bytes,
        lambda load: counted(plan.request_blocks(load.context), "block") + words,
        tuple(rules),
    )


def _sglang(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    if kv_dtype not in sglang.KV_BYTES:
        raise ValueError(f"SGLang has no cache format that stores {kv_dtype} as it is counted here")
    slot = sglang.slots(spec, sglang.Settings(kv_dtype, conv_kernel=kernel))
    windowed = _windowed(spec)

    def says(load: Load) -> str:
        words = f"{counted(load.context, 'slot')} of {slot.token_bytes:,} bytes a request"
        if slot.window:
            some = counted(min(load.context, slot.window), "slot")
            words += f", and {some} of {slot.window_bytes:,} for windowed layers"
        words += ": windowed layers hold every token" * (windowed and not slot.window)
        return words + f", and a state of {slot.sequence_bytes:,}" * bool(slot.sequence_bytes)

    rules = ["slots"] + ["shared layers"] * any(layer.shares is not None for layer, _ in spec.groups)
    rules += ["windowed pool"] * windowed + ["state slots"] * bool(slot.sequence_bytes)
    rules += ["latent"] * _has(spec, Role.LATENT)
    return _Profile(lambda load: load.batch * slot.request_bytes(load.context), says, tuple(rules))


def _llama_cpp(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    kind = LLAMA_TYPES.get(kv_dtype, kv_dtype)
    if kind not in llama_cpp.TYPES:
        raise ValueError(f"llama.cpp has no cache type {kv_dtype}")

    def pools(load: Load) -> tuple[llama_cpp.Pool, ...]:
        n_ctx = load.context * load.batch
        settings = llama_cpp.Settings(n_ctx, type_k=kind, type_v=kind, n_seq_max=load.batch, conv_kernel=kernel)
        return llama_cpp.pools(spec, settings)

    def says(load: Load) -> str:
        parts = [f"{p.name} {counted(p.cells, 'cell')} × {counted(p.n_layers, 'layer')}" for p in pools(load)]
        return ", ".join(parts) + " for each sequence" * (load.batch > 1)

    names = {"KV": "cells", "SWA": "window", "recurrent": "recurrent"}
    found = pools(Load(1, 1, kv_dtype))
    rules = ["size", *(names[pool.name] for pool in found)] + ["latent"] * _has(spec, Role.LATENT)
    return _Profile(lambda load: sum(pool.total_bytes for pool in pools(load)), says, tuple(rules))


def _tensorrt_llm(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    pools = tensorrt_llm.pools(spec, kv_dtype)
    windows = sorted(window for window in pools.token_bytes if window is not None)
    words = f"whole blocks of {pools.block_tokens} tokens"
    if windows:
        words += f", of windowed layers those that the last {' or '.join(f'{w:,}' for w in windows)} lie in"
    rules = ["blocks"] + ["windows"] * bool(windows) + ["latent"] * _has(spec, Role.LATENT)
    return _Profile(lambda load: load.batch * pools.request_bytes(load.context), lambda load: words, tuple(rules))


def _mlx(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    mlx.request_bytes(spec, 1, kv_dtype)  # raises for a layout without a known rule
    windowed = _windowed(spec)
    words = f"buffers of a multiple of {mlx.STEP} positions" + ", windowed layers at most their window" * windowed
    rules = ["steps"] + ["ring"] * windowed + ["scale and bias"] * (kv_dtype in mlx.QUANTISED)
    return _Profile(
        lambda load: load.batch * mlx.request_bytes(spec, load.context, kv_dtype), lambda load: words, tuple(rules)
    )


def _transformers(spec: ModelSpec, kv_dtype: str, kernel: int | None) -> _Profile:
    own_code.request_bytes(spec, 1, kv_dtype)  # raises for a layout without a known rule
    return _Profile(
        lambda load: load.batch * own_code.request_bytes(spec, load.context, kv_dtype),
        lambda load: "what its dynamic cache keeps between steps",
        ("dynamic cache",),
    )


_PROFILES: dict[str, Callable[[ModelSpec, str, int | None], _Profile]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "llama.cpp": _llama_cpp,
    "tensorrt-llm": _tensorrt_llm,
    "mlx": _mlx,
    "transformers": _transformers,
}


def _has(spec: ModelSpec, role: Role) -> bool:
    return any(state.role is role for layer, _ in spec.groups for state in layer.states)


def _windowed(spec: ModelSpec) -> bool:
    states = [state for layer, _ in spec.groups for state in layer.states]
    return any(isinstance(state, PositionState) and state.window is not None for state in states)
