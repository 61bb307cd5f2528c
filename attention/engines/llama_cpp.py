"""llama.cpp's cache: the cells of its pools, and the MiB that it prints for K, V, R and S.

The rules and their sources are in ``rules.RULES``. Models with a sparse indexer, compressed caches, cross-attention or
windows of several sizes are refused, because no rules for them are known here. So are models in which every layer has a
window, because llama.cpp applies the windows of only some such models.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from attention.engines.rules import refuse_roles, without_newest_column
from attention.errors import check_choice
from attention.formats import GGUF_BLOCKS, cache_format
from attention.memory.load import MAX_BATCH, MAX_CONTEXT
from attention.memory.terms import remembered
from attention.spec import FixedState, ModelSpec, PositionState, Role, check_size

PAD = 256
"""The number of cells is a multiple of this."""
N_UBATCH = 512
TYPES = {
    "f32": cache_format("fp32"),
    "f16": cache_format("fp16"),
    "bf16": cache_format("bf16"),
    **{name: cache_format(name) for name in GGUF_BLOCKS},
}
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.CONVOLUTION, Role.RECURRENT)


@dataclass(frozen=True)
class Settings:
    """The settings with which llama.cpp was started.

    Attributes:
        n_ctx: tokens of all sequences together; n_ubatch: tokens of a physical batch; n_seq_max: sequences.
        type_k, type_v: types of K and V, keys of TYPES.
        unified: whether all sequences share one stream of cells.
        swa_full: whether windowed layers hold as many cells as the others.
        latent_v: whether the latent is also kept as V.
        conv_kernel: columns of the model's convolution.

    Raises:
        ValueError: a setting out of range or a type that is not known.
    """

    n_ctx: int
    n_ubatch: int = N_UBATCH
    type_k: str = "f16"
    type_v: str = "f16"
    n_seq_max: int = 1
    unified: bool = False
    swa_full: bool = False
    latent_v: bool = False
    conv_kernel: int | None = None

    def __post_init__(self) -> None:
        check_size("n_ctx", self.n_ctx, maximum=MAX_CONTEXT)
        check_size("n_ubatch", self.n_ubatch, maximum=MAX_CONTEXT)
        check_size("n_seq_max", self.n_seq_max, maximum=MAX_BATCH)
        for name in ("type_k", "type_v"):
            check_choice(name, getattr(self, name), TYPES)

    @property
    def cells(self) -> int:
        """Cells of a stream for layers that hold every token."""
        return padded(self.n_ctx if self.unified else max(1, self.n_ctx // self.n_seq_max))

    @property
    def streams(self) -> int:
        """Streams of cells: one for each sequence, or one for all."""
        return 1 if self.unified else self.n_seq_max


class Pool(NamedTuple):
    """One pool, as llama.cpp prints it in one line.

    Attributes:
        name: "KV", "SWA" (windowed layers) or "recurrent", where K stands for R and V for S.
        cells: cells of one stream; k_bytes, v_bytes: bytes of K and of V in all streams and layers.
    """

    name: str
    cells: int
    streams: int
    n_layers: int
    k_bytes: int
    v_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.k_bytes + self.v_bytes


def padded(cells: int) -> int:
    """`cells`, rounded up to a multiple of PAD."""
    return -(-cells // PAD) * PAD


def mib(n_bytes: int) -> str:
    """Bytes in MiB as llama.cpp prints them: in single precision, with two digits, ties to even."""
    return f"{struct.unpack('f', struct.pack('f', n_bytes))[0] / 2**20:.2f}"


class _Rows(NamedTuple):
    """The bytes of one cell in all layers of a pool; `window` is None for layers that hold every token."""

    name: str
    window: int | None
    n_layers: int
    k_bytes: int
    v_bytes: int


def pools(spec: ModelSpec, settings: Settings) -> tuple[Pool, ...]:
    """The pools, in the order in which llama.cpp prints them.

    Raises:
        ValueError: a state whose layout is not known here, or heads that are not whole blocks of a type.
    """
    key = ("llama.cpp", settings.type_k, settings.type_v, settings.latent_v, settings.conv_kernel)
    found = []
    for rows in remembered(spec, key, lambda: _rows(spec, settings)):
        cells, streams = settings.cells, settings.streams
        if rows.name == "recurrent":
            cells, streams = settings.n_seq_max, 1
        elif rows.window is not None:
            cells = window_cells(rows.window, settings)
        held = cells * streams
        found.append(Pool(rows.name, cells, streams, rows.n_layers, held * rows.k_bytes, held * rows.v_bytes))
    return tuple(found)


def _rows(spec: ModelSpec, settings: Settings) -> tuple[_Rows, ...]:
    refuse_roles("llama.cpp", spec, _KNOWN)
    held = [(state, n) for layer, n in spec.groups for state in layer.states]
    kept = [(state, n) for state, n in held if isinstance(state, PositionState)]
    windows = {state.window for state, _ in kept} - {None}
    if len(windows) > 1 or any(state.stride != 1 for state, _ in kept):
        raise ValueError("how llama.cpp lays out windows of several sizes is not known here")
    if windows and all(state.window is not None for state, _ in kept):
        raise ValueError("whether llama.cpp applies the windows of a model that has no other layers is not known here")
    found = []
    for name, window in (("KV", None), *(("SWA", window) for window in windows)):
        some = [(state, n) for state, n in kept if state.window == window]
        if some:
            n_layers = sum(n for _, n in some)
            sizes = [_row(state, n, settings) for state, n in some]
            found.append(_Rows(name, window, n_layers, sum(k for k, _ in sizes), sum(v for _, v in sizes)))
    fixed = [(state, n) for state, n in held if isinstance(state, FixedState)]
    if fixed:
        n_layers = sum(n for layer, n in spec.groups if any(isinstance(state, FixedState) for state in layer.states))
        conv, rest = ([(s, n) for s, n in fixed if (s.role is Role.CONVOLUTION) is wanted] for wanted in (True, False))
        columns = sum(n * without_newest_column(state, settings.conv_kernel) for state, n in conv)
        recurrent = sum(n * state.elements for state, n in rest)
        found.append(_Rows("recurrent", None, n_layers, 4 * columns, 4 * recurrent))
    return tuple(found)


def window_cells(window: int, settings: Settings) -> int:
    """Cells of a stream for layers with a window of `window` tokens."""
    if settings.swa_full:
        return settings.cells
    return padded(min(settings.cells, window * (settings.n_seq_max if settings.unified else 1) + settings.n_ubatch))


def _row(state: PositionState, n: int, settings: Settings) -> tuple[int, int]:
    """(bytes of K, bytes of V) of a cell in `n` equal layers."""
    if state.role is Role.LATENT:
        k = _heads("type_k", settings.type_k, 1, state.k_head_dim + state.v_head_dim)
        return n * k, n * _heads("type_v", settings.type_v, 1, state.k_head_dim) if settings.latent_v else 0
    k = _heads("type_k", settings.type_k, state.n_kv_heads, state.k_head_dim)
    return n * k, n * _heads("type_v", settings.type_v, state.n_kv_heads, state.v_head_dim)


def _heads(field: str, name: str, n_heads: int, head_dim: int) -> int:
    """Bytes of a row of `n_heads` heads in the type `name`.

    Raises:
        ValueError: a head is not a whole number of the type's blocks; llama.cpp refuses such a type.
    """
    group = TYPES[name].group_size or 1
    if head_dim % group:
        raise ValueError(f"{field} {name} has blocks of {group}, and a head of {head_dim} elements is not whole blocks")
    return TYPES[name].row_bytes(n_heads * head_dim)
