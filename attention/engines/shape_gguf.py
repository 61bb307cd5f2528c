"""Writes a GGUF file with the layers, K/V heads and head sizes of a model, from which llama.cpp can size its cache.

Width, feed-forward and vocabulary are tiny, all weights are zero, and there are only as many query heads as K/V heads:
the cache does not depend on them. Needs numpy and ``gguf`` (requirements-engines.txt).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attention.spec import Kind, Layer, ModelSpec, PositionState, Role

if TYPE_CHECKING:
    import numpy as np

WIDTH, WORDS = 64, 32
MOST_BYTES = 2**30
"""Most bytes of the weights in a file."""
WITHOUT_Q_LATENT = (26, 27)
"""Numbers of layers by which llama.cpp recognises DeepSeek-V2-Lite, whose queries are not compressed."""


class Shape(NamedTuple):
    """An architecture of llama.cpp with the same layers as the model.

    Attributes:
        layer: the first layer; all layers equal it, apart from the window.
        window: the window of the windowed layers, None if there are none.
    """

    arch: str
    layer: Layer
    window: int | None


def shape_of(spec: ModelSpec) -> Shape:
    """The architecture in which the model's layers can be written.

    Raises:
        ValueError: no architecture that this module writes has such layers.
    """
    states = {layer.states for layer in spec.layers}
    if any(len(some) != 1 or not isinstance(some[0], PositionState) or some[0].stride != 1 for some in states):
        raise ValueError("no architecture of llama.cpp that is written here keeps what this model's layers do")
    kinds = {layer.kind for layer in spec.layers}
    widths = {(layer.n_kv_heads, layer.k_head_dim, layer.v_head_dim) for layer in spec.layers}
    if len(widths) > 1:
        raise ValueError("layers of different widths are not written here")
    windows = [_state(layer).window for layer in spec.layers]
    first = spec.layers[0]
    if kinds == {Kind.LATENT}:
        return Shape("deepseek2", first, None)
    if any(_state(layer).role is not Role.KEY_VALUE for layer in spec.layers):
        raise ValueError("no architecture of llama.cpp that is written here keeps what this model's layers do")
    if set(windows) == {None}:
        return Shape("llama", first, None)
    some = {window for window in windows if window is not None}
    for arch, period in (("gemma2", 2), ("gemma3", 6)):
        if len(some) == 1 and all((window is None) == (i % period == period - 1) for i, window in enumerate(windows)):
            return Shape(arch, first, some.pop())
    raise ValueError("windows in this order are not written here")


def _state(layer: Layer) -> PositionState:
    state = layer.states[0]
    assert isinstance(state, PositionState), "other states are refused"
    return state


def write(spec: ModelSpec, path: Path) -> Shape:
    """Write the file.

    Raises:
        ValueError: as in `shape_of`, a file that would be too large, or ``gguf`` is not installed.
    """
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install -r requirements-engines.txt") from None
    shape = shape_of(spec)
    tensors = _tensors(shape, spec.n_layers)
    size = sum(math.prod(dims) * 18 // 32 for dims in tensors.values())
    if size > MOST_BYTES:
        raise ValueError(f"a file of this shape would take {size:,} bytes; at most {MOST_BYTES:,} are written")
    writer = gguf.GGUFWriter(path, shape.arch)
    writer.add_context_length(2**20)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(spec.n_layers)
    writer.add_feed_forward_length(WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(WORDS)
    writer.add_tokenizer_model("no_vocab")
    _sizes(writer, shape, spec.n_layers)
    if shape.arch == "deepseek2":
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    for name, dims in tensors.items():
        if len(dims) > 1 and dims[-1] % 32 == 0:
            blocks = (*dims[:-1], dims[-1] // 32 * 18)
            writer.add_tensor(name, _zeros(np, blocks, np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        else:
            writer.add_tensor(name, _zeros(np, dims, np.float16 if len(dims) > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return shape


def _zeros(np: Any, dims: tuple[int, ...], kind: Any) -> np.ndarray:
    # this array takes no memory: all elements are one zero
    return np.broadcast_to(np.zeros((), dtype=kind), dims)


def _sizes(writer: Any, shape: Shape, n_layers: int) -> None:
    layer, state = shape.layer, _state(shape.layer)
    writer.add_head_count(layer.n_kv_heads)
    if shape.arch != "deepseek2":
        writer.add_head_count_kv(layer.n_kv_heads)
        writer.add_key_length(layer.k_head_dim)
        writer.add_value_length(layer.v_head_dim)
        writer.add_rope_dimension_count(layer.k_head_dim)
        if shape.window is not None:
            writer.add_sliding_window(shape.window)
        return
    rank, rope = state.k_head_dim, state.v_head_dim
    writer.add_head_count_kv(1)
    writer.add_key_length(rank + rope)
    writer.add_value_length(rank)
    writer.add_key_length_mla(layer.k_head_dim)
    writer.add_value_length_mla(layer.v_head_dim)
    writer.add_rope_dimension_count(rope)
    if n_layers not in WITHOUT_Q_LATENT:
        writer.add_q_lora_rank(WIDTH)
    writer.add_kv_lora_rank(rank)
    writer.add_leading_dense_block_count(n_layers)
    writer.add_expert_feed_forward_length(WIDTH)
    writer.add_expert_shared_count(1)
    writer.add_expert_weights_scale(1.0)


def _tensors(shape: Shape, n_layers: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name, in numpy's order: the last dimension is the fastest."""
    layer, state = shape.layer, _state(shape.layer)
    n, k_dim, v_dim = layer.n_kv_heads, layer.k_head_dim, layer.v_head_dim
    vector, square = (WIDTH,), (WIDTH, WIDTH)
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (WORDS, WIDTH), "output_norm.weight": vector}
    own: dict[str, tuple[int, ...]] = {"attn_norm": vector, "attn_output": (WIDTH, n * v_dim), "ffn_norm": vector}
    own |= dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down"), square)
    if shape.arch == "deepseek2":
        rank, rope = state.k_head_dim, state.v_head_dim
        if n_layers in WITHOUT_Q_LATENT:
            own |= {"attn_q": (n * k_dim, WIDTH)}
        else:
            own |= {"attn_q_a": square, "attn_q_a_norm": vector, "attn_q_b": (n * k_dim, WIDTH)}
        own |= {"attn_kv_a_mqa": (rank + rope, WIDTH), "attn_kv_a_norm": (rank,)}
        own |= {"attn_k_b": (n, rank, k_dim - rope), "attn_v_b": (n, v_dim, rank)}
    else:
        own |= {"attn_q": (n * k_dim, WIDTH), "attn_k": (n * k_dim, WIDTH), "attn_v": (n * v_dim, WIDTH)}
    if shape.arch.startswith("gemma"):
        own |= {"post_attention_norm": vector, "post_ffw_norm": vector}
    else:
        found["output.weight"] = (WORDS, WIDTH)
    if shape.arch == "gemma3":
        own |= {"attn_q_norm": (k_dim,), "attn_k_norm": (k_dim,)}
    return found | {f"blk.{i}.{name}.weight": dims for i in range(n_layers) for name, dims in own.items()}
