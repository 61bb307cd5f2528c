"""Encoder-decoders: the decoder's self-attention, and its cross-attention, whose cache is fixed after the first
step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attention.configs.adapter import Adapter
from attention.configs.families import ordinary
from attention.configs.fields import Reader
from attention.spec import FixedState, Kind, Layer, PositionState, Role

COUNTED = "decoder self-attention and cross-attention over the source are counted; the encoder keeps no cache"


def _decoder_layer(heads: int, head_dim: int) -> Layer:
    states = (
        PositionState(Role.KEY_VALUE, heads, head_dim, head_dim),
        PositionState(Role.CROSS, heads, head_dim, head_dim),
    )
    return Layer(Kind.CROSS, states, heads, head_dim, head_dim)


def read_t5(reader: Reader) -> list[Layer]:
    """T5 (arXiv:1910.10683): d_kv is the head size. num_decoder_layers counts the decoder's layers where it is stated,
    else num_layers does."""
    if reader.raw.get("num_hidden_layers") is None and reader.raw.get("num_layers") is None:
        reader.refuse("num_layers", "is missing: the file does not state the number of layers")
    n_layers = reader.stated("num_decoder_layers") or reader.n_layers
    head_dim = reader.stated("d_kv")
    if head_dim is None:
        head_dim = reader.size("d_kv")
    reader.note(COUNTED)
    return [_decoder_layer(reader.n_heads, head_dim)] * n_layers


def read_bart(reader: Reader) -> list[Layer]:
    """BART and related models: decoder_layers layers, decoder_attention_heads heads, width d_model."""
    return _sized(reader, "decoder_layers", "decoder_attention_heads", "d_model")


def read_prophetnet(reader: Reader) -> list[Layer]:
    """ProphetNet (arXiv:2001.04063): only the main stream keeps keys and values, the predicting streams do not."""
    return _sized(reader, "num_decoder_layers", "num_decoder_attention_heads", "hidden_size")


def _sized(reader: Reader, layers: str, heads: str, width: str) -> list[Layer]:
    for name in (layers, heads, width):
        if reader.raw.get(name) is None:
            reader.refuse(name, "is missing: the file does not state the decoder's size")
    n_heads, size = reader.raw[heads], reader.raw[width]
    if size % n_heads:
        reader.refuse(width, f"= {size} is not a multiple of {n_heads} heads")
    reader.note(COUNTED)
    return [_decoder_layer(n_heads, size // n_heads)] * reader.raw[layers]


def read_whisper(reader: Reader) -> list[Layer]:
    """Whisper (arXiv:2212.04356, section 2.2): every input is padded to 30 seconds, so the encoder always gives
    max_source_positions positions."""
    positions = reader.stated("max_source_positions")
    if positions is None:
        reader.refuse("max_source_positions", "is missing: the file does not state how long the encoded speech is")
    layers = read_bart(reader)
    cross = layers[0].states[1]
    assert isinstance(cross, PositionState)
    fixed = FixedState(Role.CROSS, cross.elements_per_position * positions, n_heads=cross.n_kv_heads)
    reader.note(f"every input is padded to {positions:,} encoded positions, so cross-attention has a fixed size")
    return [replace(layer, states=(layer.states[0], fixed)) for layer in layers]


def read_t5gemma(reader: Reader) -> list[Layer]:
    """T5Gemma (arXiv:2504.06225): the decoder is a Gemma 2 or 3; each layer also keeps K and V of the whole source."""
    out = []
    for layer in ordinary.read(reader):
        own = layer.states[0]
        assert isinstance(own, PositionState)
        out.append(replace(layer, kind=Kind.CROSS, states=(own, replace(own, role=Role.CROSS, window=None))))
    reader.note(COUNTED)
    return out


def _of(read: Callable[[Reader], list[Layer]], source: str) -> Callable[[Reader], list[Layer]]:
    """The same reading with a note about the source, for a source that is not text."""

    def noted(reader: Reader) -> list[Layer]:
        reader.note(f"the source is {source}: its tokens are the positions that the encoder makes of it")
        return read(reader)

    return noted


T5_TYPES = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
BART_TYPES = (
    *("bart", "mbart", "m2m_100", "pegasus", "marian", "blenderbot", "blenderbot-small", "plbart", "mvp"),
    *("led", "fsmt", "nllb-moe", "pegasus_x", "bigbird_pegasus"),
)

ADAPTERS = {
    **{name: Adapter(read_t5) for name in T5_TYPES},
    "pop2piano": Adapter(_of(read_t5, "music")),
    "udop": Adapter(_of(read_t5, "a page's text and image")),
    **{name: Adapter(read_bart, uses_class=False, class_type=name) for name in BART_TYPES},
    "speech_to_text": Adapter(_of(read_bart, "speech"), uses_class=False, class_type="speech_to_text"),
    "trocr": Adapter(_of(read_bart, "an image"), uses_class=False, class_type="trocr"),
    "pix2struct_text_model": Adapter(_of(read_t5, "an image")),
    "pp_formulanet_text": Adapter(_of(read_bart, "an image"), uses_class=False, class_type="pp_formulanet_text"),
    "prophetnet": Adapter(read_prophetnet, uses_class=False, class_type="prophetnet"),
    "whisper": Adapter(read_whisper, uses_class=False, class_type="whisper"),
    "t5_gemma_module": Adapter(read_t5gemma),
    "t5gemma2_decoder": Adapter(read_t5gemma),
}
