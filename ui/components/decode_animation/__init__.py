"""The animated decode: tokens arrive, the cache grows, and every step reads weights and cache past the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention.catalog.published import Accelerator
from attention.serving.decode import Frame, Trace
from attention.units import binary_bytes, counted, decimal, duration, significant
from ui.components.component import component
from viz.theme import kv_colors

_WORDS = "the cache keeps every token so the next step reads all of them again and again while the processor waits for"
MOST_STRIPES = 16
"""More K/V heads than this are drawn as so many stripes."""

_component = component(Path(__file__).parent)


def summary(trace: Trace, accelerator: Accelerator, n_kv_heads: int, count: int = 1) -> str:
    """The animation's last step in a sentence."""
    last = trace.frames[-1]
    kept = "KV cache" if n_kv_heads else "state"
    return (
        f"Animated decode: at {counted(last.context, 'token')} a step reads "
        f"{binary_bytes(last.weight_bytes)} of weights and {binary_bytes(last.cache_bytes)} of {kept}, "
        f"at least {duration(last.time_s)} on {_device(accelerator, count)}."
    )


def decode_animation(trace: Trace, accelerator: Accelerator, n_kv_heads: int, *, key: str, count: int = 1) -> None:
    """Draw the animation; it starts at the last step and waits for Play.

    Args:
        n_kv_heads: K/V heads whose colours the cache has (0: a state without heads).
        count: accelerators at work together.
    """
    last = trace.frames[-1]
    _component(
        key=key,
        data={
            "frames": [_frame(frame) for frame in trace.frames],
            "largest": max(last.weight_bytes, last.cache_bytes),
            "most": max(frame.moved_bytes for frame in trace.frames),
            "colors": kv_colors(max(1, min(n_kv_heads, MOST_STRIPES))),
            "tokens": _WORDS.split(),
            "device": _device(accelerator, count),
            "kept": "KV cache" if n_kv_heads else "State",
            "summary": summary(trace, accelerator, n_kv_heads, count),
            "crossoverFrame": trace.crossover_frame,
            "markText": "cache = weights",
            "before": _before(trace),
            "after": "Now a step reads more cache than weights: from here on, most of it goes into the cache.",
        },
    )


def _device(accelerator: Accelerator, count: int) -> str:
    together = f"{count} × {accelerator.label}" if count > 1 else accelerator.label
    return f"{together} · {decimal(count * accelerator.bytes_per_s, 'B/s')}"


def _before(trace: Trace) -> str:
    if trace.crossover is None:
        return "A step of this model reads more weights than cache, however long the context."
    return f"From {counted(trace.crossover, 'token')} on, a step reads more cache than weights."


def _frame(frame: Frame) -> dict[str, Any]:
    moved, time = binary_bytes(frame.moved_bytes), duration(frame.time_s)
    return {
        "weights": frame.weight_bytes,
        "cache": frame.cache_bytes,
        "binds": frame.binds,
        "text": {
            "context": f"{frame.context:,}",
            "weights": binary_bytes(frame.weight_bytes),
            "cache": binary_bytes(frame.cache_bytes),
            "moved": moved,
            "flops": decimal(frame.flops, "FLOP"),
            "intensity": significant(frame.intensity),
            "time": time,
            "share": f"{significant(100 * frame.cache_share, 2)} %",
            "summary": f"{moved} read, {time}",
        },
    }
