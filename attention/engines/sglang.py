"""SGLang's pools: slots for layers that hold every token, slots for windowed layers, and slots for recurrent states.

The rules and their sources are in ``rules.RULES``. Models are refused where no rules are known here: compressed caches,
cross-attention, an indexer's key of other than 128 elements, an fp8 latent of other than 512 + 64 elements beside an
indexer, and a windowed pool with windows of several sizes or without full layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attention.engines.rules import refuse_roles, without_newest_column
from attention.errors import check_choice
from attention.memory.allocation import check_tp
from attention.spec import DTYPE_BYTES, FixedState, ModelSpec, PositionState, Role, check_size

KV_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}
"""Bytes of an element for each dtype that --kv-cache-dtype can select."""
WINDOWED_POOL = frozenset({"llama4_text", "llama4", "gpt_oss", "mimo_v2_flash", "step3p5", "gemma4", "gemma4_text"})
"""Model types whose windowed layers have their own pool. Windowed layers of all other types hold every token."""
INDEXER_KEY = 132
"""Bytes of an indexer's key: 128 elements in fp8 and one fp32 scale."""
LATENT_RECORD = 656
"""Bytes of a latent of 512 + 64 elements in fp8, in a model with an indexer."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CONVOLUTION, Role.RECURRENT)


@dataclass(frozen=True)
class Settings:
    """The settings with which SGLang was started.

    Attributes:
        kv_dtype: a key of KV_BYTES; page_tokens: --page-size; tp: ranks of tensor parallelism for attention.
        window_ratio: --swa-full-tokens-ratio in thousandths: slots of windowed layers divided by slots of the others.
        state_ratio: --mamba-full-memory-ratio in thousandths: memory of states divided by memory of tokens.
        ssm_dtype: --mamba-ssm-dtype; conv_kernel: columns of the model's convolution.
        dtype: dtype of the model, None for the one it states.

    Raises:
        ValueError: a cache dtype or a page size that is not accepted.
    """

    kv_dtype: str = "bf16"
    page_tokens: int = 1
    tp: int = 1
    window_ratio: int = 800
    state_ratio: int = 900
    ssm_dtype: str = "fp32"
    conv_kernel: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_choice("kv_cache_dtype", self.kv_dtype, KV_BYTES)
        check_size("page_size", self.page_tokens, maximum=2**20)


class Slots(NamedTuple):
    """The bytes of a slot on one rank.

    Attributes:
        k, v: bytes of a token in the layers that hold every token; a latent counts as K.
        window_k, window_v: bytes of a token in windowed layers with their own pool.
        window: tokens that these layers hold, 0 without such a pool.
        conv, state: bytes of a sequence's convolution states and recurrent states.
    """

    k: int
    v: int
    window_k: int
    window_v: int
    window: int
    conv: int
    state: int
    settings: Settings

    @property
    def token_bytes(self) -> int:
        """Bytes of a token in the layers that hold every token."""
        return self.k + self.v

    @property
    def window_bytes(self) -> int:
        """Bytes of a token in windowed layers with their own pool."""
        return self.window_k + self.window_v

    @property
    def sequence_bytes(self) -> int:
        """Bytes of a sequence's states of fixed size."""
        return self.conv + self.state

    def request_bytes(self, length: int) -> int:
        """Bytes of the slots that one request of `length` tokens holds while it decodes."""
        page = self.settings.page_tokens
        end = -(-length // page)
        begin = max(0, length - max(self.window, page)) // page
        windowed = (end - begin) * page * self.window_bytes if self.window else 0
        return end * page * self.token_bytes + windowed + self.sequence_bytes

    def tokens(self, memory_bytes: int) -> tuple[int, int]:
        """(max_total_num_tokens for this memory, slots of windowed layers or 0 without their own pool)."""
        s, left = self.settings, memory_bytes
        if self.sequence_bytes:
            left = max(0, left - (self.states(memory_bytes) + 1) * self.sequence_bytes)
        if not self.window:
            full = left // self.token_bytes if self.token_bytes else 0
            return full // s.page_tokens * s.page_tokens, 0
        full = left * 1000 // (1000 * self.token_bytes + s.window_ratio * self.window_bytes)
        full = full // s.page_tokens * s.page_tokens
        return full, full * s.window_ratio // 1000 // s.page_tokens * s.page_tokens

    def states(self, memory_bytes: int) -> int:
        """max_mamba_cache_size for this memory. One slot more, which holds nothing, is taken from the same memory."""
        if not self.sequence_bytes:
            return 0
        ratio = self.settings.state_ratio
        return max(0, memory_bytes * ratio // (1000 + ratio) // self.sequence_bytes - 1)


def slots(spec: ModelSpec, settings: Settings) -> Slots:
    """The bytes of a slot on one rank.

    Raises:
        ValueError: a state whose layout is not known here, or heads that the ranks cannot share evenly.
    """
    refuse_roles("SGLang", spec, _KNOWN)
    check_tp(spec, settings.tp)
    apart = spec.model_type in WINDOWED_POOL
    sparse = any(s.role is Role.INDEXER for layer, _ in spec.groups for s in layer.states)
    k = v = window_k = window_v = conv = fixed = 0
    windows = set()
    for layer, n in spec.groups:
        # a layer that reads another layer's cache also has its own slots
        for state in layer.states if layer.shares is None else spec.layers[layer.shares].states:
            if isinstance(state, FixedState):
                size = n * _fixed(state, spec, settings)
                conv, fixed = (conv + size, fixed) if state.role is Role.CONVOLUTION else (conv, fixed + size)
                continue
            if state.stride != 1:
                raise ValueError("how SGLang lays out a compressed cache is not known here")
            of_k, of_v = _position(state, settings, sparse)
            if state.window is not None and apart:
                windows.add(state.window)
                window_k, window_v = window_k + n * of_k, window_v + n * of_v
            else:
                k, v = k + n * of_k, v + n * of_v
    if len(windows) > 1:
        raise ValueError("how SGLang lays out windows of several sizes is not known here")
    if windows and not k:
        raise ValueError("how SGLang lays out a model whose every layer has a window is not known here")
    return Slots(k, v, window_k, window_v, windows.pop() if windows else 0, conv, fixed, settings)


def _position(state: PositionState, settings: Settings, sparse: bool) -> tuple[int, int]:
    """(bytes of K, bytes of V) of one token in one layer on one rank. Every rank keeps a latent whole, as K."""
    size = KV_BYTES[settings.kv_dtype]
    if state.role is Role.INDEXER:
        if state.k_head_dim != 128:
            raise ValueError("how SGLang keeps an indexer's key of another size than 128 is not known here")
        return INDEXER_KEY, 0
    if state.role is Role.LATENT:
        width = state.k_head_dim + state.v_head_dim
        if sparse and settings.kv_dtype == "fp8":
            if (state.k_head_dim, state.v_head_dim) != (512, 64):
                raise ValueError("fp8 beside an indexer is a record for a latent of 512 + 64; this model keeps another")
            return LATENT_RECORD, 0
        return width * size, 0
    heads = max(1, state.n_kv_heads // settings.tp)
    return heads * state.k_head_dim * size, heads * state.v_head_dim * size


def _fixed(state: FixedState, spec: ModelSpec, settings: Settings) -> int:
    """Bytes of one state of a layer for one sequence on one rank."""
    if state.role is Role.CONVOLUTION:
        dtype = settings.dtype or spec.model_dtype
        if dtype is None:
            raise ValueError("torch_dtype is not stated, so the dtype of SGLang's convolution states is not known")
        size = without_newest_column(state, settings.conv_kernel) * DTYPE_BYTES[dtype]
    else:
        size = state.elements * DTYPE_BYTES[settings.ssm_dtype]
    return -(-size // min(settings.tp, state.n_heads))
