"""vLLM's planner: the groups of layers that share a pool of blocks, and the tokens it prints for some memory.

Rules and sources: ``rules.RULES``. Not known here, and refused: DeepSeek-V4's compressed caches, cross-attention.
Left out: decode context and pipeline parallelism, draft layers, the packed layout that some backends of 0.33 choose for
mixed page sizes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from attention.engines.rules import refuse_roles, without_newest_column
from attention.errors import check_choice
from attention.memory.allocation import PAGE_TOKENS, check_tp
from attention.memory.load import MAX_CONTEXT
from attention.spec import DTYPE_BYTES, FixedState, Kind, ModelSpec, PositionState, Role, check_size

KV_DTYPES = {
    "auto": None, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "half": 2,
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_ds_mla": None, "int8_per_token_head": 1, "fp8_per_token_head": 1,
    "nvfp4": None,
}  # fmt: skip
"""Bytes of an element; None where it is the model's, or a record says it."""
LATENT_RECORD = 656
"""fp8_ds_mla, of a latent of 512 + 64."""
STATE_ALIGNMENT = 16
"""Tokens that an enlarged attention block is a multiple of: the smallest block of the attention kernel."""
IN_FLIGHT = 8192
"""Default of max_num_batched_tokens of a server on a large GPU."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CONVOLUTION, Role.RECURRENT)


@dataclass(frozen=True)
class Settings:
    """How vLLM was started; sizes in tokens.

    Attributes:
        max_model_len: longest request, None where it is not known.
        in_flight: tokens of the steps in flight, max_num_batched_tokens times the batches scheduled at once.
        hybrid_manager: False if windowed layers hold every token.
        state_pages: pages of a recurrent state per request: 1, or 2 with mamba_cache_mode "align".
        dtype: of the model, None for the one it states.
        ssm_dtype: of recurrent states (mamba_ssm_cache_dtype), None for the model's.
        conv_kernel: columns of the model's convolution.
        extra_layers: layers of a draft, as wide as the model's own.
    """

    max_model_len: int | None = None
    block_tokens: int = PAGE_TOKENS
    kv_dtype: str = "auto"
    tp: int = 1
    in_flight: int = IN_FLIGHT
    hybrid_manager: bool = True
    state_pages: int = 1
    dtype: str | None = None
    ssm_dtype: str | None = None
    conv_kernel: int | None = None
    extra_layers: int = 0

    def __post_init__(self) -> None:
        check_choice("kv_cache_dtype", self.kv_dtype, KV_DTYPES)
        if self.max_model_len is not None:
            check_size("max_model_len", self.max_model_len, maximum=MAX_CONTEXT)
        check_size("block_size", self.block_tokens, maximum=2**20)
        check_size("max_num_batched_tokens", self.in_flight, maximum=MAX_CONTEXT)


class _Layer(NamedTuple):
    """What the planner knows of one layer on one rank: bytes per token, or of its state."""

    kind: str
    token_bytes: int
    window: int = 0
    state_bytes: int = 0


class Group(NamedTuple):
    """Layers that share a table of blocks. `kind`: "full", "window", "chunk" or "state"."""

    kind: str
    n_layers: int
    block_tokens: int
    window: int


class Plan(NamedTuple):
    """One rank's pool.

    Attributes:
        block_bytes: of one block, with the places that a short group leaves empty.
        page_bytes: of one layer's page, 0 where layers of one group differ.
        token_bytes: what one more token takes where nothing is padded and windows are full.
    """

    groups: tuple[Group, ...]
    block_bytes: int
    page_bytes: int
    token_bytes: int
    settings: Settings

    @property
    def group_size(self) -> int:
        return max(group.n_layers for group in self.groups)

    def blocks(self, memory_bytes: int) -> int:
        return max(0, memory_bytes) // self.block_bytes

    def group_blocks(self, group: Group, length: int) -> int:
        """Blocks that one request of `length` tokens takes in a group."""
        held = self.settings.in_flight + group.window
        match group.kind:
            case "full":
                return -(-length // group.block_tokens)
            case "window":
                return -(-min(held - 1, length) // group.block_tokens) + 1
            case "chunk":
                return -(-min(held, length) // group.block_tokens)
        return self.settings.state_pages

    def request_blocks(self, length: int) -> int:
        return sum(self.group_blocks(group, length) for group in self.groups)

    def concurrency(self, blocks: int) -> float:
        """Requests of the longest length.

        Raises:
            ValueError: the longest length is not known.
        """
        if self.settings.max_model_len is None:
            raise ValueError("max_model_len is not known, and the concurrency depends on it")
        return blocks / self.request_blocks(self.settings.max_model_len)

    def tokens(self, blocks: int, way: str) -> int:
        """The figure after "GPU KV cache size"; `way` is the name of its rule, as the engine rounds."""
        if way == "tokens by groups":
            return blocks // len(self.groups) * min(g.block_tokens for g in self.groups if g.kind != "state")
        return int(self.concurrency(blocks) * (self.settings.max_model_len or 0))

    def longest(self, memory_bytes: int) -> int:
        """The longest request that `memory_bytes` hold, at most MAX_CONTEXT (0: not one token)."""
        lengths = range(1, MAX_CONTEXT + 1)
        return bisect_right(lengths, memory_bytes, key=lambda n: self.request_blocks(n) * self.block_bytes)


def plan(spec: ModelSpec, settings: Settings) -> Plan:
    """One rank's pool.

    Raises:
        ValueError: a state whose layout is not known here, heads that cannot be dealt out, or sizes that vLLM refuses.
    """
    refuse_roles("vLLM", spec, _KNOWN)
    check_tp(spec, settings.tp)
    layers = _layers(spec, settings)
    if not settings.hybrid_manager and any(layer.kind in ("window", "chunk") for layer in layers):
        if any(layer.kind == "state" for layer in layers):
            raise ValueError("windows beside recurrent states need vLLM's hybrid manager")
        layers = [layer._replace(kind="full", window=0) for layer in layers]
    if not layers:
        raise ValueError("no layer of this model keeps a cache of its own")
    drafts = [layer for layer in layers if layer.kind == "full"][:1]
    layers += drafts * settings.extra_layers
    token_bytes = sum(layer.token_bytes for layer in layers)
    block = settings.block_tokens
    if len({(layer.kind, layer.window) for layer in layers}) == 1 and layers[0].kind != "state":
        group = Group(layers[0].kind, len(layers), block, layers[0].window)
        pages = {layer.token_bytes * block for layer in layers}
        page = pages.pop() if len(pages) == 1 else 0
        return Plan((group,), token_bytes * block, page, token_bytes, settings)
    return _hybrid(layers, token_bytes, settings)


def _hybrid(layers: list[_Layer], token_bytes: int, settings: Settings) -> Plan:
    """Several kinds of layers: pages of one size, groups of one size."""
    widths = {layer.token_bytes for layer in layers if layer.kind != "state"}
    block, state = settings.block_tokens, max(layer.state_bytes for layer in layers)
    if not widths:
        raise ValueError("how vLLM prints a model of recurrent states alone is not known here")
    if state:
        if len(widths) > 1:
            raise ValueError(
                "attention layers of different widths beside recurrent states: vLLM's block is not known here"
            )
        align = max(STATE_ALIGNMENT, block)
        block = max(block, align * -(-state // (align * max(widths))))
    page = max(widths) * block
    buckets: Counter[tuple[str, int, int]] = Counter()
    for layer in layers:
        # a page that does not divide the largest is padded, its block stays
        wider = (
            page // (layer.token_bytes * block) if layer.token_bytes and not page % (layer.token_bytes * block) else 1
        )
        buckets[layer.kind, block * wider, layer.window] += 1
    fewest, most = min(buckets.values()), max(buckets.values())
    size = most if most < fewest * 1.5 else fewest
    groups = []
    for (kind, tokens, window), n in buckets.items():
        parts = -(-n // size)
        groups += [Group(kind, len(range(i, n, parts)), tokens, window) for i in range(parts)]
    # a rank of a pipeline apart, the widest group says how many pages a block has
    return Plan(tuple(groups), max(group.n_layers for group in groups) * page, page, token_bytes, settings)


def _layers(spec: ModelSpec, settings: Settings) -> list[_Layer]:
    found = []
    for layer in spec.layers:
        fixed = [state for state in layer.states if isinstance(state, FixedState)]
        for state in layer.states:
            if isinstance(state, PositionState):
                if state.stride != 1:
                    raise ValueError("how vLLM lays out a compressed cache is not known here")
                kind = "full" if state.window is None else "chunk" if layer.kind is Kind.CHUNKED else "window"
                found.append(_Layer(kind, _token_bytes(state, spec, settings), state.window or 0))
        if fixed:
            found.append(_Layer("state", 0, 0, sum(_state_bytes(state, spec, settings) for state in fixed)))
    return found


def _element_bytes(spec: ModelSpec, settings: Settings, dtype: str | None = None) -> int:
    chosen = dtype or settings.dtype or spec.model_dtype
    if chosen is None:
        raise ValueError("torch_dtype is not stated, so vLLM's cache dtype is not known")
    return DTYPE_BYTES[chosen]


def _token_bytes(state: PositionState, spec: ModelSpec, settings: Settings) -> int:
    """Bytes of one token in one layer on one rank."""
    kv, width = settings.kv_dtype, state.k_head_dim + state.v_head_dim
    if kv == "fp8_ds_mla":
        if state.role is Role.INDEXER:
            return state.k_head_dim + 4
        if state.role is not Role.LATENT or (state.k_head_dim, state.v_head_dim) != (512, 64):
            raise ValueError("fp8_ds_mla is a record for a latent of 512 + 64; this model keeps another")
        return LATENT_RECORD
    heads = max(1, state.n_kv_heads // settings.tp)
    if kv in ("int8_per_token_head", "fp8_per_token_head"):
        return heads * (width + 4 * (2 if state.v_head_dim else 1))
    if kv == "nvfp4":
        if state.k_head_dim % 16 or state.v_head_dim % 16:
            raise ValueError("nvfp4 keeps one scale for 16 elements; a head of this model is no multiple of 16")
        return heads * (width // 2 + width // 16)
    return heads * width * (KV_DTYPES[kv] or _element_bytes(spec, settings))


def _state_bytes(state: FixedState, spec: ModelSpec, settings: Settings) -> int:
    """Bytes of a layer's state on one rank."""
    if state.role is Role.CONVOLUTION:
        size = without_newest_column(state, settings.conv_kernel) * _element_bytes(spec, settings)
    else:
        size = state.elements * _element_bytes(spec, settings, settings.ssm_dtype)
    return -(-size // min(settings.tp, state.n_heads))
