"""Ordinary attention whose heads, K/V heads and windows are stated for each layer, as in a GGUF header."""

from __future__ import annotations

from attention.configs.adapter import Adapter
from attention.configs.families.ordinary import CHUNKED, FULL, SLIDING
from attention.configs.fields import Reader
from attention.errors import shown
from attention.spec import Kind, Layer, attention_layer, check_size

MODEL_TYPE = "gguf_layers"
"""A type of this project; no published config.json has it."""
CHUNK = ("attention_chunk_size",)


def read(reader: Reader) -> list[Layer]:
    """The layers. Those without K/V heads keep nothing; sliding layers may have heads of another size.

    Raises:
        ValueError: a list or size is missing or wrong; the message names it.
    """
    n_layers = reader.n_layers
    k_dim, v_dim = reader.size("head_dim"), reader.size("v_head_dim")
    sliding_dims = reader.size("swa_head_dim", default=k_dim), reader.size("swa_v_head_dim", default=v_dim)
    kinds = reader.per_layer("layer_types", n_layers) or [FULL[0]] * n_layers
    names = ("num_attention_heads_per_layer", "num_key_value_heads_per_layer")
    per_layer = [reader.per_layer(name, n_layers) for name in names]
    out = []
    for index, kind in enumerate(kinds):
        heads, kv = (_entry(reader, name, values, index) for name, values in zip(names, per_layer, strict=True))
        if kind not in (*FULL, *SLIDING, *CHUNKED):
            reader.refuse("layer_types", f"holds {shown(kind)}, which is not known")
        k, v = (k_dim, v_dim) if kind in FULL else sliding_dims
        if not heads or not kv:
            out.append(Layer(Kind.NONE, (), heads, k, v))
            continue
        window = None if kind in FULL else reader.window(*(CHUNK if kind in CHUNKED else ()))
        out.append(attention_layer(heads, kv, k, window, v_head_dim=v, chunked=kind in CHUNKED))
    return out


def _entry(reader: Reader, name: str, values: list[object] | None, index: int) -> int:
    if values is None:
        reader.refuse(name, "is missing")
    return check_size(f"{reader.prefix}{name}[{index}]", values[index], minimum=0)


ADAPTERS = {MODEL_TYPE: Adapter(read, uses_class=False)}
