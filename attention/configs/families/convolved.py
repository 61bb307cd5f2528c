"""Models in which attention layers also keep states of fixed size, or in which other layers keep them."""

from __future__ import annotations

from dataclasses import replace

from attention.configs.adapter import Adapter
from attention.configs.families import hybrid
from attention.configs.fields import Reader
from attention.errors import shown
from attention.spec import FixedState, Kind, Layer, Role, attention_layer


def read_inkling(reader: Reader) -> list[Layer]:
    """Inkling: every layer has four convolutions in float32: over keys, over values, and two over the width. Windowed
    layers have their own numbers and sizes of heads."""
    n_layers, width = reader.n_layers, reader.width
    kinds = reader.per_layer("layer_types", n_layers) or []
    kernel = reader.size("conv_kernel_size")

    def layer(heads: int, kv: int, head_dim: int, window: int | None) -> Layer:
        attention = attention_layer(heads, kv, head_dim, window)
        rows = (FixedState(Role.CONVOLUTION, kv * head_dim * kernel, "fp32", kv),) * 2
        streams = (FixedState(Role.CONVOLUTION, width * kernel, "fp32"),) * 2
        return replace(attention, states=(*attention.states, *rows, *streams))

    made = {"hybrid": layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim(), None)}
    if "hybrid_sliding" in kinds:
        heads, kv = reader.size("swa_num_attention_heads"), reader.size("swa_num_key_value_heads")
        if heads % kv:
            reader.refuse("swa_num_key_value_heads", f"= {kv} does not divide swa_num_attention_heads = {heads}")
        window = reader.size("sliding_window_size", "sliding_window")
        made["hybrid_sliding"] = layer(heads, kv, reader.size("swa_head_dim"), window)
    return _made(reader, kinds, made)


def read_zaya(reader: Reader) -> list[Layer]:
    """ZAYA (compressed convolutional attention, arXiv:2510.04476). Beside K and V, a layer keeps queries and keys of
    cca_time0 + cca_time1 - 2 past positions, and half of the values of the last position."""
    kinds = reader.per_layer("layer_types", reader.n_layers) or []
    heads, kv, head_dim = reader.n_heads, reader.n_kv_heads(), reader.head_dim()
    columns = reader.size("cca_time0") + reader.size("cca_time1") - 2
    states: tuple[FixedState, ...] = (FixedState(Role.RECURRENT, kv * head_dim // 2, None, kv),)
    if columns:
        states = (FixedState(Role.CONVOLUTION, (heads + kv) * head_dim * columns, None, kv), *states)
    made = {}
    for kind in dict.fromkeys(kinds):
        window = reader.window() if kind == "hybrid_sliding" else None
        attention = attention_layer(heads, kv, head_dim, window)
        made[kind] = replace(attention, states=(*attention.states, *states))
    if bad := sorted(set(made) - {"hybrid", "hybrid_sliding"}):
        reader.refuse("layer_types", f"holds {shown(bad[0])}, which {reader.model_type} does not have")
    return _made(reader, kinds, made)


def _made(reader: Reader, kinds: list[str], made: dict[str, Layer]) -> list[Layer]:
    if bad := [kind for kind in kinds if kind not in made]:
        reader.refuse("layer_types", f"holds {shown(bad[0])}, which {reader.model_type} does not have")
    return [made[kind] for kind in kinds]


def read_phi4flash(reader: Reader) -> list[Layer]:
    """Phi-4-mini-flash (SambaY, arXiv:2507.06607; microsoft/Phi-4-mini-flash-reasoning, modeling_phi4flash.py).

    Up to layer n/2, even layers are Mamba and odd layers have a window. Layer n/2 + 1 alone keeps every position, and
    all attention layers after it read its cache. The even layers after it read the Mamba output of layer n/2 and keep
    nothing.
    """
    n_layers, heads, kv = reader.n_layers, reader.n_heads, reader.n_kv_heads()
    if n_layers % 4:
        reader.refuse("num_hidden_layers", f"= {n_layers} is not a multiple of 4, as this architecture needs")
    head_dim = reader.even_head_dim()
    inner = reader.size("mamba_expand", default=2) * reader.width
    kernel, state = reader.size("mamba_d_conv", default=4), reader.size("mamba_d_state", default=16)
    # the model's own cache keeps both states in the model's dtype
    mamba = hybrid.recurrent(inner * kernel, inner * state, inner, None)
    sliding, full = attention_layer(heads, kv, head_dim, reader.window()), attention_layer(heads, kv, head_dim)
    last = n_layers // 2 + 1
    shared = Layer(Kind.SHARED, (), heads, head_dim, head_dim, shares=last)
    out = [mamba if i % 2 == 0 else full if i == last else sliding for i in range(last + 1)]
    return out + [Layer(Kind.NONE) if i % 2 == 0 else shared for i in range(last + 1, n_layers)]


def read_bailing_linear(reader: Reader) -> list[Layer]:
    """Ring-linear 2.0 (arXiv:2510.19338; modeling_bailing_moe_linear_v2.py). The last layer of each group of
    layer_group_size layers has attention, and so have all layers of an incomplete last group. The others keep one
    float32 matrix per query head."""
    n_layers, heads = reader.n_layers, reader.n_heads
    head_dim = reader.head_dim()
    group = reader.size("layer_group_size")
    attention = attention_layer(heads, reader.n_kv_heads(), head_dim)
    linear = hybrid.recurrent(None, heads * head_dim * head_dim, heads)
    whole = n_layers // group * group
    return [attention if (i + 1) % group == 0 or i >= whole else linear for i in range(n_layers)]


ADAPTERS = {
    "inkling_text": Adapter(read_inkling),
    "inkling2_text": Adapter(read_inkling),
    "zaya": Adapter(read_zaya),
    "phi4flash": Adapter(read_phi4flash, uses_class=False),
    **{
        name: Adapter(read_bailing_linear, uses_class=False) for name in ("bailing_moe_linear", "bailing_moe_linear_v2")
    },
}
