"""The known differences between the computed cache and the cache of transformers' own code, each with its exact size.

A difference is explained only if its size in bytes equals the size that a rule predicts.
"""

from __future__ import annotations

from attention.spec import Kind, Layer, PositionState, Role


def explain(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """Why the model's own cache of `layer` differs from the computed one; None if no rule predicts the difference.

    Args:
        context: tokens; element_bytes: bytes of an element.
        difference: allocated less computed bytes, for one sequence.
    """
    for rule in (_window, _window_of_one, _broadcast, _compressed, _positions):
        text = rule(layer, context, element_bytes, difference, model_type)
        if text is not None:
            return text
    return None


def _key_value_rows(layer: Layer) -> list[PositionState]:
    return [s for s in layer.states if isinstance(s, PositionState) and s.role in (Role.KEY_VALUE, Role.LATENT)]


def _window(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """A dynamic cache keeps W - 1 positions of a window W between steps: a step adds the newest one."""
    states = [s for s in _key_value_rows(layer) if s.window is not None and context >= s.window]
    expected = -sum(s.elements_per_position for s in states) * element_bytes
    if not states or difference != expected:
        return None
    window = states[0].window
    assert window is not None, "states without a window were left out"
    return (
        f"transformers keeps {window - 1:,} of the window's {window:,} positions between steps: "
        f"{-expected:,} bytes less"
    )


def _window_of_one(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """For W = 1 the last W - 1 positions are taken as [-0:], which is all positions."""
    states = [s for s in _key_value_rows(layer) if s.window == 1]
    expected = sum(s.elements_per_position for s in states) * (context - 1) * element_bytes
    if not states or difference != expected:
        return None
    return (
        f"transformers cuts a window of 1 to its last 0 positions and so keeps all {context:,}: {expected:,} bytes more"
    )


def _broadcast(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """Falcon's new architecture copies K and V for every query head before it caches them."""
    if model_type not in ("falcon", "RefinedWeb", "RefinedWebModel"):
        return None
    expected = 0
    for state in _key_value_rows(layer):
        missing = (layer.n_heads - state.n_kv_heads) * (state.k_head_dim + state.v_head_dim)
        expected += missing * state.positions(context) * element_bytes
    if not expected or difference != expected:
        return None
    return (
        f"transformers repeats each K/V head before caching and so stores {layer.n_heads} heads where the model has "
        f"{layer.n_kv_heads}: {expected:,} bytes more"
    )


def _positions(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """Qwen4-Exp's first indexed layer also keeps the position of each token as three 64-bit numbers."""
    if model_type != "qwen4_exp_text" or difference != 3 * 8 * context:
        return None
    return f"transformers notes each token's position in three 64-bit numbers, in one layer: {difference:,} bytes more"


def _compressed(layer: Layer, context: int, element_bytes: int, difference: int, model_type: str) -> str | None:
    """DeepSeek-V4: W - 1 positions of the window W, a second copy of them in layers that do not compress, and the
    buffers of the block that is not full yet (keys and gates; at rate 4 with double width and four overlapping rows).
    """
    if layer.kind is not Kind.COMPRESSED:
        return None
    states = [s for s in layer.states if isinstance(s, PositionState)]
    window = states[0]
    assert window.window is not None
    held = min(context, window.window)
    kept = min(context, window.window - 1)
    elements = (kept - held) * window.k_head_dim
    stride = max(s.stride for s in states)
    words = []
    if kept < held:
        words.append("the window without its newest position")
    if stride == 1:
        elements += kept * window.k_head_dim
        words.append("keys and values kept apart though equal")
    else:
        widths = sum(s.k_head_dim for s in states[1:])
        overlaps = len(states) > 2  # sparse layers, which have an indexer
        factor = 2 if overlaps else 1
        elements += 2 * (context % stride) * factor * widths
        if overlaps and context >= stride:
            elements += 2 * stride * widths
        words.append("buffers of the block that is not full yet")
    if difference != elements * element_bytes:
        return None
    return f"transformers differs by {', '.join(words)}: {difference:+,} bytes"
