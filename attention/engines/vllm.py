"""vLLM's planner: the groups of layers that share a pool of blocks, and the tokens it prints for some memory.

The rules and their sources are in ``rules.RULES``; ``ask_vllm`` compares them with vLLM's own planner. DeepSeek-V4's
compressed caches and cross-attention are refused, because no rules for them are known here. Not modelled: pipeline
parallelism, and the packed layout that some backends of 0.33 choose for mixed page sizes.
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
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_ds_mla": None, "nvfp4_ds_mla": None,
    "int8_per_token_head": 1, "fp8_per_token_head": 1,
    "nvfp4": None,
}  # fmt: skip
"""Bytes of an element. None: it has the model's dtype, or the format has a rule of its own."""
LATENT_RECORDS = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes of a latent of 512 + 64 elements."""
INDEXER_BLOCK = 64
"""Tokens of a block where an indexer picks entries: the only size that its kernel accepts."""
STATE_ALIGNMENT = 16
"""An enlarged attention block is a multiple of this many tokens, the smallest block of the attention kernel."""
LATENT_ALIGNMENT = 128
"""The same number for models with latent vectors."""
FP32_STATES = ("kimi_linear", "nemotron_h", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe")
"""Types whose recurrent states are in fp32 unless the settings state another dtype."""
IN_FLIGHT = 8192
"""Default of max_num_batched_tokens of a server on a large GPU."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CONVOLUTION, Role.RECURRENT)


@dataclass(frozen=True)
class Settings:
    """The settings with which vLLM was started.

    Attributes:
        max_model_len: tokens of the longest request, None where they are not known.
        block_tokens: tokens of a block, None for vLLM's choice, see ``block_of``.
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


class _Layer(NamedTuple):
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


class Group(NamedTuple):
    """Layers that share a table of blocks.

    Attributes:
        kind: "full", "window", "chunk" or "state".
        block_tokens: tokens of a block; window: tokens of the window, 0 without one.
    """

    kind: str
    n_layers: int
    block_tokens: int
    window: int


class Plan(NamedTuple):
    """One rank's pool.

    Attributes:
        block_bytes: bytes of one block, with the places that a short group leaves empty.
        page_bytes: bytes of one layer's page, 0 where layers of one group differ.
        token_bytes: bytes of one token in all layers together, without padding.
    """

    groups: tuple[Group, ...]
    block_bytes: int
    page_bytes: int
    token_bytes: int
    settings: Settings

    @property
    def group_size(self) -> int:
        """Layers of the largest group."""
        return max(group.n_layers for group in self.groups)

    def blocks(self, memory_bytes: int) -> int:
        """Whole blocks that `memory_bytes` hold."""
        return max(0, memory_bytes) // self.block_bytes

    def group_blocks(self, group: Group, length: int) -> int:
        """Blocks that one request of `length` tokens takes in a group."""
        held = self.settings.in_flight + group.window
        match group.kind:
            case "full":
                return -(-length // (group.block_tokens * self.settings.dcp))
            case "window":
                return -(-min(held - 1, length) // group.block_tokens) + 1
            case "chunk":
                return -(-min(held, length) // group.block_tokens)
        return self.settings.state_pages + self.settings.draft_tokens

    def request_blocks(self, length: int) -> int:
        """Blocks that one request of `length` tokens takes in all groups."""
        return sum(self.group_blocks(group, length) for group in self.groups)

    def concurrency(self, blocks: int) -> float:
        """Number of requests of the longest length that `blocks` hold.

        Raises:
            ValueError: the longest length is not known.
        """
        if self.settings.max_model_len is None:
            raise ValueError("max_model_len is not known, and the concurrency depends on it")
        return blocks / self.request_blocks(self.settings.max_model_len)

    def tokens(self, blocks: int, way: str) -> int:
        """The tokens that vLLM prints after "GPU KV cache size".

        Args:
            way: the name of the rule by which they are printed, "tokens by groups" or "tokens by concurrency".
        """
        if way == "tokens by groups":
            sizes = [group.block_tokens for group in self.groups if group.kind != "state" or len(self.groups) == 1]
            return blocks // len(self.groups) * min(sizes) * self.settings.dcp
        return int(self.concurrency(blocks) * (self.settings.max_model_len or 0))

    def longest(self, memory_bytes: int) -> int:
        """The longest request that `memory_bytes` hold, at most MAX_CONTEXT (0: not one token)."""
        lengths = range(1, MAX_CONTEXT + 1)
        return bisect_right(lengths, memory_bytes, key=lambda n: self.request_blocks(n) * self.block_bytes)


def plan(spec: ModelSpec, settings: Settings) -> Plan:
    """One rank's pool.

    Raises:
        ValueError: a state whose layout is not known here, heads that the ranks cannot share evenly, or sizes that vLLM
            refuses.
    """
    refuse_roles("vLLM", spec, _KNOWN)
    check_tp(spec, settings.tp)
    layers = _layers(spec, settings)
    if settings.dcp > 1 and any(layer.kind != "full" for layer in layers):
        raise ValueError("vLLM's decode context parallelism takes models whose every layer holds every token")
    if not settings.hybrid_manager and any(layer.kind in ("window", "chunk") for layer in layers):
        if any(layer.kind == "state" for layer in layers):
            raise ValueError("windows beside recurrent states need vLLM's hybrid manager")
        layers = [layer._replace(kind="full", window=0) for layer in layers]
    if not layers:
        raise ValueError("no layer of this model keeps a cache of its own")
    drafts = [layer for layer in layers if layer.kind == "full"][:1]
    layers += drafts * settings.extra_layers
    token_bytes = sum(layer.token_bytes for layer in layers)
    block = block_of(spec, settings)
    if len({(layer.kind, layer.window) for layer in layers}) == 1:
        if layers[0].kind == "state":
            return _states_alone(layers, settings)
        group = Group(layers[0].kind, len(layers), block, layers[0].window)
        pages = {layer.token_bytes * block for layer in layers}
        page = pages.pop() if len(pages) == 1 else 0
        return Plan((group,), token_bytes * block, page, token_bytes, settings)
    return _hybrid(layers, token_bytes, block, settings)


def block_of(spec: ModelSpec, settings: Settings) -> int:
    """Tokens of a block before it is enlarged: as the settings state, else the size that GPU attention kernels use."""
    if settings.block_tokens is not None:
        return settings.block_tokens
    picked = any(state.role is Role.INDEXER for layer, _ in spec.groups for state in layer.states)
    return INDEXER_BLOCK if picked else PAGE_TOKENS


def _states_alone(layers: list[_Layer], settings: Settings) -> Plan:
    """The pool of a model with recurrent states alone: each sequence takes one block, whatever its length."""
    if len({layer.state_bytes for layer in layers}) > 1:
        raise ValueError("how vLLM lays out recurrent states of several sizes alone is not known here")
    page = layers[0].state_bytes
    group = Group("state", len(layers), settings.max_model_len or MAX_CONTEXT, 0)
    return Plan((group,), page * len(layers), page, 0, settings)


def _hybrid(layers: list[_Layer], token_bytes: int, block: int, settings: Settings) -> Plan:
    """The pool of a model with several kinds of layers: all pages have one size, and groups are about equally large."""
    widths = {layer.token_bytes for layer in layers if layer.kind != "state"}
    state = max(layer.state_bytes for layer in layers)
    latent = any(layer.shape[:1] == (0,) for layer in layers)
    if state:
        if len(widths) > 1:
            raise ValueError(
                "attention layers of different widths beside recurrent states: vLLM's block is not known here"
            )
        align = max(LATENT_ALIGNMENT if latent else STATE_ALIGNMENT, block)
        # for a latent with scales only the elements count here
        filled = max(layer.plain_bytes or layer.token_bytes for layer in layers)
        block = max(block, align * -(-state // (align * filled)))
    page = max(widths) * block
    if latent and any(page % (width * block) for width in widths):
        raise ValueError(
            "pages of latent vectors cannot be padded: vLLM holds every token in all layers of such a model"
        )
    buckets: Counter[tuple[str, int, int, int, tuple[int, ...]]] = Counter()
    for layer in layers:
        # a page that does not divide the largest page is padded, and its block stays as it is
        wider = (
            page // (layer.token_bytes * block) if layer.token_bytes and not page % (layer.token_bytes * block) else 1
        )
        buckets[layer.kind, block * wider, layer.window, layer.state_bytes, layer.shape] += 1
    fewest, most = min(buckets.values()), max(buckets.values())
    size = most if most < fewest * 1.5 else fewest
    groups = []
    for (kind, tokens, window, _, _), n in buckets.items():
        parts = -(-n // size)
        groups += [Group(kind, len(range(i, n, parts)), tokens, window) for i in range(parts)]
    # without pipeline parallelism, a block has one page for each layer of the largest group
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
                heads = 0 if state.role in (Role.LATENT, Role.INDEXER) else rank_heads(state, settings)
                shape = (heads, state.k_head_dim, state.v_head_dim)
                scaled = state.role is Role.LATENT and settings.kv_dtype.endswith("per_token_head")
                plain = state.k_head_dim + state.v_head_dim if scaled else 0
                found.append(_Layer(kind, _token_bytes(state, spec, settings), state.window or 0, 0, shape, plain))
        if fixed:
            sizes = tuple(_state_bytes(state, spec, settings) for state in fixed)
            found.append(_Layer("state", 0, 0, sum(sizes), (-1, *sizes)))
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
