"""Hybrids: some layers cache keys and values, the others keep convolution and recurrent states of fixed size.

States are counted as transformers' own code keeps them: a convolution keeps as many positions as its kernel has, in
the model's dtype; a recurrent state is in float32 where the code computes it so.
"""

from __future__ import annotations

from attention.configs.adapter import Adapter
from attention.configs.families import latent, ordinary
from attention.configs.fields import Reader
from attention.configs.names import MAX_LAYERS
from attention.errors import shown
from attention.spec import FixedState, Kind, Layer, Role, attention_layer

LINEAR = ("linear_attention", "mamba", "recurrent")


def recurrent(convolution: int | None, recurrent: int | None, n_heads: int = 1, dtype: str | None = "fp32") -> Layer:
    """A layer of fixed states.

    Args:
        convolution, recurrent: size of each state in elements, None without that state.
        n_heads: heads into which tensor parallelism divides the states.
        dtype: dtype of the recurrent state, None for the model's dtype.
    """
    states = []
    if convolution:
        states.append(FixedState(Role.CONVOLUTION, convolution, n_heads=n_heads))
    if recurrent:
        states.append(FixedState(Role.RECURRENT, recurrent, dtype, n_heads))
    return Layer(Kind.RECURRENT, tuple(states))


def delta_rule(reader: Reader) -> Layer:
    """Gated DeltaNet (Qwen3-Next, arXiv:2412.06464): a short convolution over q, k and v, and one matrix per value
    head."""
    k_heads, k_dim = reader.size("linear_num_key_heads"), reader.size("linear_key_head_dim")
    v_heads, v_dim = reader.size("linear_num_value_heads"), reader.size("linear_value_head_dim")
    kernel = reader.size("linear_conv_kernel_dim")
    return recurrent((2 * k_heads * k_dim + v_heads * v_dim) * kernel, v_heads * k_dim * v_dim, v_heads)


def mamba1(reader: Reader) -> Layer:
    """Mamba (arXiv:2312.00752): a convolution and a recurrent state over the inner width."""
    inner = reader.stated("intermediate_size") if reader.model_type in ("mamba", "falcon_mamba") else None
    if inner is None:  # Falcon-Mamba states both, and they differ: its code uses intermediate_size
        inner = reader.size("mamba_expand", "expand") * reader.width
    return recurrent(
        inner * reader.size("mamba_d_conv", "conv_kernel"), inner * reader.size("mamba_d_state", "state_size"), inner
    )


def mamba2(reader: Reader) -> Layer:
    """Mamba-2 (arXiv:2405.21060): the convolution also covers B and C of every group."""
    heads = reader.size("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    head_dim = reader.stated("mamba_head_dim", "mamba_d_head", "mamba_headdim")
    if not isinstance(head_dim, int):
        head_dim = reader.default("mamba_head_dim") or reader.default("mamba_d_head") or reader.default("mamba_headdim")
    if not isinstance(head_dim, int):
        reader.refuse("mamba_d_head", f"must be a whole number, got {shown(head_dim)}")
    groups = reader.size("mamba_n_groups", "mamba_ngroups", "n_groups")
    state = reader.size("ssm_state_size", "mamba_d_state", "state_size")
    kernel = reader.size("mamba_d_conv", "conv_kernel")
    inner = heads * head_dim
    return recurrent((inner + 2 * groups * state) * kernel, inner * state, heads)


def _mix(reader: Reader, kinds: list[str], attention: Layer, other: Layer) -> list[Layer]:
    for kind in kinds:
        if kind not in (*ordinary.FULL, *LINEAR, "conv"):
            reader.refuse("layer_types", f"holds {shown(kind)}, which {reader.model_type} does not have")
    return [attention if kind in ordinary.FULL else other for kind in kinds]


def _attention(reader: Reader) -> Layer:
    return attention_layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim())


def _kinds(reader: Reader) -> list[str]:
    kinds = reader.per_layer("layer_types", reader.n_layers)
    if kinds is None:
        reader.refuse("layer_types", "is missing: the file does not state which layers have attention")
    return kinds


def read_delta(reader: Reader) -> list[Layer]:
    """Qwen3-Next, Qwen3.5 and OLMo hybrid: some layers have full attention, the others are gated DeltaNet."""
    kinds = reader.raw.get("layer_types")
    interval = reader.raw.get("full_attention_interval")
    if kinds and interval and kinds != _every(interval, len(kinds)):
        reader.refuse("full_attention_interval", f"= {interval} contradicts layer_types")
    return _mix(reader, _kinds(reader), _attention(reader), delta_rule(reader))


def _every(interval: int, n_layers: int) -> list[str]:
    return ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(n_layers)]


def read_mamba1_hybrid(reader: Reader) -> list[Layer]:
    """Jamba: one layer in each attn_layer_period layers, at attn_layer_offset, has attention."""
    return _mix(reader, _kinds(reader), _attention(reader), mamba1(reader))


def read_mamba2_hybrid(reader: Reader) -> list[Layer]:
    """Granite 4 hybrid and Bamba: some layers have attention, the others are Mamba-2."""
    kinds = _kinds(reader)
    other = mamba2(reader) if any(kind in LINEAR for kind in kinds) else _attention(reader)
    return _mix(reader, kinds, _attention(reader), other)


def read_bamba(reader: Reader) -> list[Layer]:
    """Bamba: attn_layer_indices or layer_types must state the layers with attention; the others are Mamba-2."""
    if reader.raw.get("attn_layer_indices") is None and not reader.raw.get("layer_types"):
        reader.refuse("attn_layer_indices", "is missing: the file does not state which layers have attention")
    return read_mamba2_hybrid(reader)


def read_nemotron_h(reader: Reader) -> list[Layer]:
    """Nemotron-H: hybrid_override_pattern has a sign per layer (* attention, M Mamba-2, - MLP, E mixture of experts).
    Other files list words in layers_block_type."""
    pattern = reader.raw.get("hybrid_override_pattern")
    listed = reader.raw.get("layers_block_type") or reader.raw.get("layer_types")
    n_layers = reader.stated("num_hidden_layers")
    if pattern:
        words = {"*": "attention", "M": "mamba", "-": "mlp", "E": "moe"}
        if bad := sorted(set(pattern) - set(words)):
            reader.refuse("hybrid_override_pattern", f"holds {shown(bad[0])}; known are * M - E")
        kinds = [words[letter] for letter in pattern]
        if listed and [_plain(k) for k in listed] != kinds[: len(listed)]:
            reader.refuse("layers_block_type", "contradicts hybrid_override_pattern")
    elif listed:
        kinds = [_plain(kind) for kind in listed]
    else:
        reader.refuse("hybrid_override_pattern", "is missing: the file does not state which layers have attention")
    if n_layers is not None:
        if len(kinds) < n_layers:
            reader.refuse("hybrid_override_pattern", f"has {len(kinds)} entries for {n_layers} layers")
        kinds = kinds[:n_layers]
    if len(kinds) > MAX_LAYERS:
        reader.refuse("hybrid_override_pattern", f"has more than {MAX_LAYERS:,} entries")
    # the first published files call it attention_head_dim
    head_dim = reader.head_dim("head_dim", "attention_head_dim")
    attention = attention_layer(reader.n_heads, reader.n_kv_heads(), head_dim)
    made = {"attention": attention, "mamba": mamba2(reader), "mlp": Layer(Kind.NONE), "moe": Layer(Kind.NONE)}
    for kind in kinds:
        if kind not in made:
            reader.refuse("layers_block_type", f"holds {shown(kind)}; known are {', '.join(made)}")
    return [made[kind] for kind in kinds]


def _plain(kind: object) -> str:
    return {"full_attention": "attention", "linear_attention": "mamba"}.get(str(kind), str(kind))


def read_falcon_h1(reader: Reader) -> list[Layer]:
    """Falcon-H1: every layer has attention and a Mamba-2 branch side by side."""
    attention, mamba = _attention(reader), mamba2(reader)
    both = Layer(
        attention.kind, attention.states + mamba.states, attention.n_heads, attention.k_head_dim, attention.v_head_dim
    )
    return [both] * reader.n_layers


def read_zamba(reader: Reader) -> list[Layer]:
    """Zamba: every layer has a Mamba branch. "hybrid" layers also have attention, with heads of 2 * width / heads."""
    kinds = reader.per_layer("layer_types", reader.n_layers) or []
    fixed = mamba2(reader) if reader.model_type == "zamba2" else mamba1(reader)
    stated = reader.stated("mamba_headdim")
    inner, heads = int(reader.default("mamba_expand") * reader.width), reader.default("n_mamba_heads")
    if reader.model_type == "zamba2" and stated not in (None, inner // heads):
        reader.refuse(
            "mamba_headdim",
            f"= {stated} contradicts mamba_expand x hidden_size = {inner} over n_mamba_heads = {heads}",
        )
    for name in ("attention_head_dim", "head_dim"):
        if name in reader.raw and reader.raw[name] is None:
            reader.refuse(name, "must be a whole number, got null")
    head_dim = reader.stated("attention_head_dim") or 2 * reader.width // reader.n_heads
    attention = attention_layer(reader.n_heads, reader.n_kv_heads(), head_dim)
    both = Layer(Kind.FULL, attention.states + fixed.states, attention.n_heads, head_dim, head_dim)
    for kind in kinds:
        if kind not in ("hybrid", *LINEAR):
            reader.refuse("layers_block_type", f"holds {shown(kind)}; known are hybrid and mamba")
    return [both if kind == "hybrid" else fixed for kind in kinds]


def read_mamba(reader: Reader) -> list[Layer]:
    """Pure Mamba: no attention anywhere."""
    return [mamba1(reader)] * reader.n_layers


def read_mamba2(reader: Reader) -> list[Layer]:
    """Pure Mamba-2; its file states heads and their size as num_heads and head_dim."""
    heads, head_dim = reader.size("num_heads"), reader.size("head_dim")
    inner = heads * head_dim
    groups, state = reader.size("n_groups"), reader.size("state_size")
    layer = recurrent((inner + 2 * groups * state) * reader.size("conv_kernel"), inner * state, heads)
    return [layer] * reader.n_layers


def read_lfm2(reader: Reader) -> list[Layer]:
    """LFM2: some layers have attention; the others keep conv_L_cache positions of a convolution over the width."""
    n_layers = reader.n_layers
    if not reader.raw.get("layer_types") and reader.raw.get("full_attn_idxs") is None:
        reader.refuse("layer_types", "is missing, and so is full_attn_idxs: which layers have attention is not stated")
    conv = recurrent(reader.width * reader.size("conv_L_cache"), None, reader.width)  # ranks deal out its channels
    kinds = reader.per_layer("layer_types", n_layers)
    if kinds is not None and "sliding_attention" in kinds:  # LFM3
        attention = _attention(reader)
        window = reader.window()
        sliding = attention_layer(reader.n_heads, attention.n_kv_heads, attention.k_head_dim, window)
        made = {"full_attention": attention, "sliding_attention": sliding, "conv": conv}
        if bad := [kind for kind in kinds if kind not in made]:
            reader.refuse("layer_types", f"holds {shown(bad[0])}, which {reader.model_type} does not have")
        return [made[kind] for kind in kinds]
    if kinds is None:
        chosen = _indices(reader, "full_attn_idxs", n_layers)
        kinds = ["full_attention" if i in chosen else "conv" for i in range(n_layers)]
    return _mix(reader, kinds, _attention(reader), conv)


def _indices(reader: Reader, name: str, n_layers: int) -> set[int]:
    values = reader.raw.get(name) or []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n_layers:
            reader.refuse(name, f"must hold layer indices below {n_layers}, got {shown(value)}")
    return set(values)


def read_kimi_linear(reader: Reader) -> list[Layer]:
    """Kimi Linear: linear_attn_config.full_attn_layers lists the latent layers, counted from 1; the others are KDA."""
    n_layers = reader.n_layers
    linear = reader.raw.get("linear_attn_config") or {}
    full = linear.get("full_attn_layers")
    if full is None:
        kinds = reader.raw.get("layer_types")
        if not kinds:
            reader.refuse(
                "linear_attn_config.full_attn_layers", "is missing: which layers have attention is not stated"
            )
        chosen = {i + 1 for i, kind in enumerate(kinds) if kind in ordinary.FULL}
    else:
        if not isinstance(full, list) or any(
            isinstance(i, bool) or not isinstance(i, int) or not 1 <= i <= n_layers for i in full
        ):
            reader.refuse("linear_attn_config.full_attn_layers", f"must hold layer numbers from 1 to {n_layers}")
        chosen = set(full)
    heads, head_dim = reader.default("linear_num_heads"), reader.default("linear_head_dim")
    kernel = reader.default("linear_conv_kernel_dim")
    for name, value in (("num_heads", heads), ("head_dim", head_dim), ("short_conv_kernel_size", kernel)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            reader.refuse(f"linear_attn_config.{name}", f"must be a whole number of at least 1, got {shown(value)}")
    kda = recurrent(3 * heads * head_dim * kernel, heads * head_dim * head_dim, heads)
    attention = latent.latent(reader)
    return [attention if i + 1 in chosen else kda for i in range(n_layers)]


def read_recurrent_gemma(reader: Reader) -> list[Layer]:
    """RecurrentGemma (Griffin, arXiv:2402.19427): the pattern block_types repeats over the layers; attention has a
    window."""
    n_layers = reader.n_layers
    kinds = reader.per_layer("layer_types", n_layers)
    pattern = reader.raw.get("block_types") or reader.raw.get("_block_types")
    if pattern:
        kinds = [pattern[i % len(pattern)] for i in range(n_layers)]
    if kinds is None:
        reader.refuse("block_types", "is missing: the file does not state which layers have attention")
    width = reader.stated("lru_width") or reader.default("lru_width") or reader.width
    kernel = reader.size("conv1d_width")
    block = recurrent(width * (kernel - 1), width)
    attention = attention_layer(
        reader.n_heads, reader.n_kv_heads(), reader.head_dim(), reader.size("attention_window_size")
    )
    for kind in kinds:
        if kind not in ("attention", "sliding_attention", *LINEAR):
            reader.refuse("block_types", f"holds {shown(kind)}; known are recurrent and attention")
    return [block if kind in LINEAR else attention for kind in kinds]


def read_lightning(reader: Reader) -> list[Layer]:
    """MiniMax-Text-01 and M1: attn_type_list holds 1 for softmax attention and 0 for lightning attention, whose state
    is one head_dim x head_dim matrix per query head."""
    n_layers = reader.n_layers
    types = reader.raw.get("attn_type_list")
    if not types:
        kinds = reader.raw.get("layer_types")
        if not kinds:
            reader.refuse("attn_type_list", "is missing: the file does not state which layers have softmax attention")
        types = [1 if kind in ordinary.FULL else 0 for kind in kinds]
    if any(isinstance(t, bool) or t not in (0, 1) for t in types):
        reader.refuse("attn_type_list", "must hold 0 (lightning) and 1 (softmax) only")
    heads, head_dim = reader.n_heads, reader.head_dim()
    lightning = recurrent(None, heads * head_dim * head_dim, heads, None)
    attention = attention_layer(heads, reader.n_kv_heads(), head_dim)
    return [attention if t else lightning for t in types[:n_layers]]


ADAPTERS = {
    **{name: Adapter(read_delta) for name in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid")},
    "jamba": Adapter(read_mamba1_hybrid),
    "bamba": Adapter(read_bamba),
    "granitemoehybrid": Adapter(read_mamba2_hybrid),
    "nemotron_h": Adapter(read_nemotron_h),
    "falcon_h1": Adapter(read_falcon_h1),
    "zamba": Adapter(read_zamba),
    "zamba2": Adapter(read_zamba),
    "mamba": Adapter(read_mamba),
    "falcon_mamba": Adapter(read_mamba),
    "mamba2": Adapter(read_mamba2),
    "lfm2": Adapter(read_lfm2),
    "lfm2_moe": Adapter(read_lfm2),
    "lfm3": Adapter(read_lfm2),
    "kimi_k3": Adapter(read_kimi_linear, class_type="kimi_linear", same_code=False),
    "kimi_linear": Adapter(read_kimi_linear),
    "recurrent_gemma": Adapter(read_recurrent_gemma),
    "minimax": Adapter(read_lightning),
    **{
        name: Adapter(read_lightning, class_type="minimax", same_code=False)
        for name in ("minimax_text_01", "minimax_m1")
    },
}
