"""What vLLM keeps of each layer on one rank, under its settings: dtypes, bytes of tokens and of states.

The rules and their sources are in ``rules.RULES``. ``vllm.plan`` makes groups and blocks of these layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attention.engines.rules import without_newest_column
from attention.errors import check_choice
from attention.memory.load import MAX_CONTEXT
from attention.spec import DTYPE_BYTES, FixedState, Kind, ModelSpec, PositionState, Role, check_size

KV_DTYPES = {
    "auto": None, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "half": 2,
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_ds_mla": None, "nvfp4_ds_mla": None,
    "int8_per_token_head": 1, "fp8_per_token_head": 1,
    "nvfp4": None,
}  # fmt: skip
"""Bytes of an element. None: it has the model's dtype, or the format has a rule of its own."""
LATENT_RECORDS = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes of a latent of 512 + 64 elements."""
FP32_STATES = ("kimi_linear", "nemotron_h", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe")
"""Types whose recurrent states are in fp32 unless the settings state another dtype."""
IN_FLIGHT = 8192
"""Default of max_num_batched_tokens of a server on a large GPU."""


@dataclass(frozen=True)
class Settings:
    """The settings with which vLLM was started.

    Attributes:
        max_model_len: tokens of the longest request, None where they are not known.
        block_tokens: tokens of a block, None for vLLM's choice, see ``vllm.block_of``.
        kv_dtype: kv_cache_dtype, a key of KV_DTYPES.
        tp: ranks of tensor parallelism.
        dcp: ranks of decode context parallelism, among which the tokens of a request are divided.
        in_flight: tokens of the steps in flight: max_num_batched_tokens times the batches scheduled at once.
        hybrid_manager: whether the hybrid manager is on; without it, windowed layers hold every token.
        state_pages: pages of a recurrent state per request: 1, or 2 with mamba_cache_mode "align".
        dtype: dtype of the model, None for the dtype it states (bf16 where that is fp32).
        ssm_dtype: dtype of recurrent states (mamba_ssm_cache_dtype), None for vLLM's choice.
        conv_kernel: columns of the model's convolution.
        extra_layers: layers of a draft, as wide as the model's own layers.
        draft_tokens: num_speculative_tokens. For each of them a state keeps one more column of the convolution and one
            more page.

    Raises:
        ValueError: a setting out of range or not known.
    """

    max_model_len: int | None = None
    block_tokens: int | None = None
    kv_dtype: str = "auto"
    tp: int = 1
    dcp: int = 1
    in_flight: int = IN_FLIGHT
    hybrid_manager: bool = True
    state_pages: int = 1
    dtype: str | None = None
    ssm_dtype: str | None = None
    conv_kernel: int | None = None
    extra_layers: int = 0
    draft_tokens: int = 0

    def __post_init__(self) -> None:
        check_choice("kv_cache_dtype", self.kv_dtype, KV_DTYPES)
        if self.max_model_len is not None:
            check_size("max_model_len", self.max_model_len, maximum=MAX_CONTEXT)
        if self.block_tokens is not None:
            check_size("block_size", self.block_tokens, maximum=2**20)
        check_size("num_speculative_tokens", self.draft_tokens, minimum=0, maximum=2**16)
        check_size("max_num_batched_tokens", self.in_flight, maximum=MAX_CONTEXT)


class Layer(NamedTuple):
    """What the planner knows about one layer on one rank.

    Attributes:
        kind: "full", "window", "chunk" or "state".
        token_bytes: bytes of a token; state_bytes: bytes of a recurrent state.
        shape: layers of one group have the same shape; its first number is 0 for latent vectors.
        plain_bytes: bytes of a latent without its scales, where the size of the block follows from them; else 0.
    """

    kind: str
    token_bytes: int
    window: int = 0
    state_bytes: int = 0
    shape: tuple[int, ...] = ()
    plain_bytes: int = 0


def layers_of(spec: ModelSpec, settings: Settings) -> list[Layer]:
    """The caches and states of the model's layers, in the model's order. A layer that keeps both gives two entries.

    Raises:
        ValueError: a compressed cache, or a state or format whose layout is not known here.
    """
    found = []
    for layer in spec.layers:
        fixed = [state for state in layer.states if isinstance(state, FixedState)]
        for state in layer.states:
            if isinstance(state, PositionState):
                if state.stride != 1:
                    raise ValueError("how vLLM lays out a compressed cache is not known here")
                kind = "full" if state.window is None else "chunk" if layer.kind is Kind.CHUNKED else "window"
                heads = 0 if state.role in (Role.LATENT, Role.INDEXER) else rank_heads(state, settings)
                shape = (heads, state.k_head_dim, state.v_head_dim)
                scaled = state.role is Role.LATENT and settings.kv_dtype.endswith("per_token_head")
                plain = state.k_head_dim + state.v_head_dim if scaled else 0
                found.append(Layer(kind, _token_bytes(state, spec, settings), state.window or 0, 0, shape, plain))
        if fixed:
            sizes = tuple(_state_bytes(state, spec, settings) for state in fixed)
            found.append(Layer("state", 0, 0, sum(sizes), (-1, *sizes)))
    return found


def rank_heads(state: PositionState, settings: Settings) -> int:
    """K/V heads on each rank."""
    return max(1, state.n_kv_heads // settings.tp)


def cache_dtype(spec: ModelSpec, settings: Settings) -> str:
    """The dtype in which the model runs, which is also the cache's for "auto": as the settings state, else the model's
    dtype, with bf16 for fp32.

    Raises:
        ValueError: neither the settings nor the configuration state a dtype.
    """
    stated = "bf16" if spec.model_dtype == "fp32" else spec.model_dtype
    chosen = settings.dtype or stated
    if chosen is None:
        raise ValueError("torch_dtype is not stated, so vLLM's cache dtype is not known")
    return chosen


def state_dtype(state: FixedState, spec: ModelSpec, settings: Settings) -> str:
    """The dtype of a recurrent state or of a convolution's columns.

    Raises:
        ValueError: as in :func:`cache_dtype`.
    """
    own = cache_dtype(spec, settings)
    if state.role is Role.CONVOLUTION:
        return own
    return settings.ssm_dtype or ("fp32" if spec.model_type in FP32_STATES else own)


def _token_bytes(state: PositionState, spec: ModelSpec, settings: Settings) -> int:
    """Bytes of one token in one layer on one rank."""
    kv, width = settings.kv_dtype, state.k_head_dim + state.v_head_dim
    if state.role is Role.INDEXER:  # it does not depend on the cache's dtype
        return state.k_head_dim + 4 * (state.k_head_dim // 128)
    if kv in LATENT_RECORDS:
        if state.role is not Role.LATENT or (state.k_head_dim, state.v_head_dim) != (512, 64):
            raise ValueError(f"{kv} is a record for a latent of 512 + 64; this model keeps another")
        return LATENT_RECORDS[kv]
    heads = rank_heads(state, settings)
    if kv in ("int8_per_token_head", "fp8_per_token_head"):
        return heads * (width + 4 * 2)
    if kv == "nvfp4":
        if state.role is Role.LATENT or state.k_head_dim != state.v_head_dim:
            raise ValueError("vLLM's nvfp4 takes keys and values of one size; this model keeps others")
        if state.k_head_dim % 16:
            raise ValueError("nvfp4 keeps one scale for 16 elements; a head of this model is no multiple of 16")
        return heads * (width // 2 + width // 16)
    return heads * width * (KV_DTYPES[kv] or DTYPE_BYTES[cache_dtype(spec, settings)])


def state_elements(state: FixedState, settings: Settings) -> int:
    """Elements of a state on all ranks together.

    A convolution keeps all columns but the newest, and one more for each drafted token.

    Raises:
        ValueError: as in ``rules.without_newest_column``.
    """
    if state.role is not Role.CONVOLUTION:
        return state.elements
    held = without_newest_column(state, settings.conv_kernel)
    assert settings.conv_kernel is not None, "else it is refused"
    return held + settings.draft_tokens * (state.elements // settings.conv_kernel)


def _state_bytes(state: FixedState, spec: ModelSpec, settings: Settings) -> int:
    """Bytes of one state of a layer on one rank."""
    size = state_elements(state, settings)
    return -(-size * DTYPE_BYTES[state_dtype(state, spec, settings)] // min(settings.tp, state.n_heads))
