"""Encoder-decoders: decoder self-attention, and cross-attention over the source, fixed after the first step."""

from __future__ import annotations

from attention.configs.adapter import Adapter
from attention.configs.fields import Reader
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


def read_bart(reader: Reader) -> list[Layer]:
    """BART and its relatives: decoder_layers and decoder_attention_heads of width d_model."""
    for name in ("decoder_layers", "decoder_attention_heads", "d_model"):
        if reader.raw.get(name) is None:
            reader.refuse(name, "is missing: the file does not state the decoder's size")
    heads, width = reader.raw["decoder_attention_heads"], reader.raw["d_model"]
    if width % heads:
        reader.refuse("d_model", f"= {width} is not a multiple of {heads} heads")
    reader.note("decoder self-attention and cross-attention over the source are counted; the encoder keeps no cache")
    return [_decoder_layer(heads, width // heads)] * reader.raw["decoder_layers"]


T5_TYPES = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
BART_TYPES = ("bart", "mbart", "m2m_100", "pegasus", "marian", "blenderbot", "blenderbot-small", "plbart", "mvp")

ADAPTERS = {
    **{name: Adapter(read_t5) for name in T5_TYPES},
    **{name: Adapter(read_bart, uses_class=False, class_type=name) for name in BART_TYPES},
}
