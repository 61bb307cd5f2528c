"""SGLang's pools: token slots for layers that hold everything, slots for windowed layers, slots for recurrent states.

Rules and sources: ``rules.RULES``. Not known here, and refused: compressed caches, cross-attention, indexers whose
latent is not kept as fp8 or 16 bit, windows of several sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attention.engines.rules import refuse_roles, without_newest_column
from attention.errors import check_choice
from attention.memory.allocation import check_tp
from attention.spec import DTYPE_BYTES, FixedState, ModelSpec, PositionState, Role, check_size

KV_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}
"""Bytes of an element of what --kv-cache-dtype can be."""
WINDOWED_POOL = frozenset({"llama4_text", "llama4", "gpt_oss", "mimo_v2_flash", "step3p5", "gemma4", "gemma4_text"})
"""Model types whose windowed layers have a pool of their own; those of all other types hold every token."""
INDEXER_KEY = 132
"""Of 128 elements in fp8 and one fp32 scale."""
LATENT_RECORD = 656
"""fp8, of a latent of 512 + 64, where an indexer picks."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CONVOLUTION, Role.RECURRENT)


@dataclass(frozen=True)
class Settings:
    """How SGLang was started.

    Attributes:
        kv_dtype: one of KV_BYTES. page_tokens: --page-size. tp: attention's tensor parallel ranks.
        window_ratio: --swa-full-tokens-ratio, in thousandths, slots of windowed layers to those of the others.
        state_ratio: --mamba-full-memory-ratio, in thousandths, memory of states to that of tokens.
        ssm_dtype: --mamba-ssm-dtype. conv_kernel: columns of the model's convolution.
    """

    kv_dtype: str = "bf16"
    page_tokens: int = 1
    tp: int = 1
    window_ratio: int = 800
    state_ratio: int = 900
    ssm_dtype: str = "fp32"
    conv_kernel: int | None = None

    def __post_init__(self) -> None:
        check_choice("kv_cache_dtype", self.kv_dtype, KV_BYTES)
        check_size("page_size", self.page_tokens, maximum=2**20)


class Slots(NamedTuple):
    """What a slot takes on one rank, in bytes.

    Attributes:
        k, v: of a token in the layers that hold every token. latent: whether there is no V.
        window_k, window_v: of a token in windowed layers with a pool of their own. window: tokens that these hold.
        conv, state: of a sequence's recurrent states.
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
        return self.k + self.v

    @property
    def window_bytes(self) -> int:
        return self.window_k + self.window_v

    @property
    def sequence_bytes(self) -> int:
        return self.conv + self.state

    def request_bytes(self, length: int) -> int:
        """Bytes of the slots that one request of `length` tokens holds while it decodes."""
        page = self.settings.page_tokens
        end = -(-length // page)
        begin = max(0, length - max(self.window, page)) // page
        windowed = (end - begin) * page * self.window_bytes if self.window else 0
        return end * page * self.token_bytes + windowed + self.sequence_bytes

    def tokens(self, memory_bytes: int) -> tuple[int, int]:
        """max_total_num_tokens that this memory gives, and the slots of windowed layers (0: no pool of their own)."""
        s, left = self.settings, memory_bytes
        if self.sequence_bytes:
            count = left * s.state_ratio // (1000 + s.state_ratio) // self.sequence_bytes
            left -= count * self.sequence_bytes
        if not self.window:
            full = left // self.token_bytes if self.token_bytes else 0
            return full // s.page_tokens * s.page_tokens, 0
        full = left * 1000 // (1000 * self.token_bytes + s.window_ratio * self.window_bytes)
        some = full * s.window_ratio // 1000
        return full // s.page_tokens * s.page_tokens, some // s.page_tokens * s.page_tokens

    def states(self, memory_bytes: int) -> int:
        """max_mamba_cache_size that this memory gives."""
        ratio = self.settings.state_ratio
        return memory_bytes * ratio // (1000 + ratio) // self.sequence_bytes if self.sequence_bytes else 0


def slots(spec: ModelSpec, settings: Settings) -> Slots:
    """What a slot takes on one rank.

    Raises:
        ValueError: a state whose layout is not known here, or heads that cannot be dealt out.
    """
    refuse_roles("SGLang", spec, _KNOWN)
    check_tp(spec, settings.tp)
    apart = spec.model_type in WINDOWED_POOL
    sparse = any(s.role is Role.INDEXER for layer, _ in spec.groups for s in layer.states)
    k = v = window_k = window_v = conv = fixed = 0
    windows = set()
    for layer, n in spec.groups:
        # a layer that reads another's cache has slots all the same
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
    """Bytes of one token in one layer: K, V. A latent is kept once, on every rank."""
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
    """Bytes of one layer's state of one sequence on one rank."""
    if state.role is Role.CONVOLUTION:
        if spec.model_dtype is None:
            raise ValueError("torch_dtype is not stated, so the dtype of SGLang's convolution states is not known")
        size = without_newest_column(state, settings.conv_kernel) * DTYPE_BYTES[spec.model_dtype]
    else:
        size = state.elements * DTYPE_BYTES[settings.ssm_dtype]
    return -(-size // min(settings.tp, state.n_heads))
