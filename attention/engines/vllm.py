"""vLLM's planner: the groups of layers that share a pool of blocks, and the tokens it prints for some memory.

``vllm_layers`` says what each layer keeps. The rules and their sources are in ``rules.RULES``; ``ask_vllm`` compares
them with vLLM's own planner. DeepSeek-V4's compressed caches and cross-attention are refused, because no rules for
them are known here. Not modelled: pipeline parallelism, and the packed layout that some backends of 0.33 choose for
mixed page sizes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import NamedTuple

from attention.engines.rules import refuse_roles
from attention.engines.vllm_layers import Layer, Settings, layers_of
from attention.memory.allocation import PAGE_TOKENS, check_tp
from attention.memory.load import MAX_CONTEXT
from attention.spec import ModelSpec, Role

INDEXER_BLOCK = 64
"""Tokens of a block where an indexer picks entries: the only size that its kernel accepts."""
STATE_ALIGNMENT = 16
"""An enlarged attention block is a multiple of this many tokens, the smallest block of the attention kernel."""
LATENT_ALIGNMENT = 128
"""The same number for models with latent vectors."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CONVOLUTION, Role.RECURRENT)


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

    def tokens(self, blocks: int, rule: str) -> int:
        """The tokens that vLLM prints after "GPU KV cache size".

        Args:
            rule: the name of the rule by which they are printed, "tokens by groups" or "tokens by concurrency".
        """
        if rule == "tokens by groups":
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
    layers = layers_of(spec, settings)
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


def _states_alone(layers: list[Layer], settings: Settings) -> Plan:
    """The pool of a model with recurrent states alone: each sequence takes one block, whatever its length."""
    if len({layer.state_bytes for layer in layers}) > 1:
        raise ValueError("how vLLM lays out recurrent states of several sizes alone is not known here")
    page = layers[0].state_bytes
    group = Group("state", len(layers), settings.max_model_len or MAX_CONTEXT, 0)
    return Plan((group,), page * len(layers), page, 0, settings)


def _hybrid(layers: list[Layer], token_bytes: int, block: int, settings: Settings) -> Plan:
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
