"""Encoder-decoders: decoder self-attention, and cross-attention over the source, fixed after the first step."""

from __future__ import annotations

from attention.adapters.base import Adapter
from attention.adapters.fields import Reader
from attention.spec import Kind, Layer, PositionState, Role


def _decoder_layer(heads: int, head_dim: int) -> Layer:
    states = (
        PositionState(Role.KEY_VALUE, heads, head_dim, head_dim),
        PositionState(Role.CROSS, heads, head_dim, head_dim),
    )
    return Layer(Kind.CROSS, states, heads, head_dim, head_dim)


def read_t5(reader: Reader) -> list[Layer]:
    """T5 (arXiv:1910.10683): d_kv is a field of its own; num_decoder_layers where it differs from num_layers."""
    if reader.raw.get("num_hidden_layers") is None and reader.raw.get("num_layers") is None:
        reader.refuse("num_layers", "is missing: the file does not state the number of layers")
    n_layers = reader.stated("num_decoder_layers") or reader.n_layers
    head_dim = reader.stated("d_kv")
    if head_dim is None:
        head_dim = reader.size("d_kv")
    reader.note("decoder self-attention and cross-attention over the source are counted; the encoder keeps no cache")
    return [_decoder_layer(reader.n_heads, head_dim)] * n_layers


ADAPTERS = {name: Adapter(read_t5) for name in ("t5", "mt5", "umt5", "longt5", "switch_transformers")}
