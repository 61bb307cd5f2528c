"""The animated decode: tokens arrive, the cache grows, and every step reads weights and cache into the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention.catalog.published import Accelerator
from attention.serving.decode import Frame, Trace
from attention.units import binary_bytes, counted, decimal, duration, significant
from ui.components.component import component
from viz.theme import kv_colors

_WORDS = "the cache keeps every token so the next step reads all of them again and again while the processor waits for"
PHASES = ("decode", "prefill")
_LABELS = {
    "decode": {
        "context": "Tokens so far",
        "moved": "Moved per step",
        "flops": "Arithmetic per step",
        "time": "Time per step, at least",
    },
    "prefill": {
        "context": "Tokens of the prompt",
        "moved": "Moved, for all of them",
        "flops": "Arithmetic",
        "time": "Time, at least",
    },
}
MOST_STRIPES = 16
"""The cache is drawn with at most this many stripes, also for more K/V heads."""

_component = component(Path(__file__).parent)


def summary(trace: Trace, accelerator: Accelerator, n_kv_heads: int, count: int = 1, phase: str = "decode") -> str:
    """The animation's last frame in one sentence."""
    last = trace.frames[-1]
    kept = "KV cache" if n_kv_heads else "state"
    weights, cache = binary_bytes(last.weight_bytes), binary_bytes(last.cache_bytes)
    least = f"at least {duration(last.time_s)} on {_device(accelerator, count)}"
    if phase == "prefill":
        prompt = counted(last.context, "token")
        return (
            f"Animated prefill: a prompt of {prompt} reads {weights} of weights and writes {cache} of {kept}, {least}."
        )
    at = counted(last.context, "token")
    return f"Animated decode: at {at} a step reads {weights} of weights and {cache} of {kept}, {least}."


def decode_animation(
    trace: Trace, accelerator: Accelerator, n_kv_heads: int, *, key: str, count: int = 1, phase: str = "decode"
) -> None:
    """Draw the animation; it starts at the last step and waits for Play.

    Args:
        trace: made by ``decode.trace``, or by ``decode.prefill_trace`` for the phase "prefill".
        n_kv_heads: number of K/V heads, which give the cache its colours (0: a state without heads).
        count: number of accelerators that work together.
        phase: one of ``PHASES``.
    """
    last = trace.frames[-1]
    before, after, mark = _crossing(trace, phase)
    kept = "KV cache" if n_kv_heads else "State"
    _component(
        key=key,
        data={
            "frames": [_frame(frame) for frame in trace.frames],
            "largest": max(last.weight_bytes, last.cache_bytes),
            "most": max(frame.moved_bytes for frame in trace.frames),
            "colors": kv_colors(max(1, min(n_kv_heads, MOST_STRIPES))),
            "tokens": _WORDS.split(),
            "device": _device(accelerator, count),
            "kept": f"{kept} written" if phase == "prefill" else kept,
            "share": f"{'State' if kept == 'State' else 'Cache'}'s share of it",
            "phase": phase,
            "labels": _LABELS[phase],
            "summary": summary(trace, accelerator, n_kv_heads, count, phase),
            "crossoverFrame": trace.crossover_frame,
            "markText": mark,
            "before": before,
            "after": after,
        },
    )


def _device(accelerator: Accelerator, count: int) -> str:
    together = f"{count} × {accelerator.label}" if count > 1 else accelerator.label
    return f"{together} · {decimal(count * accelerator.bytes_per_s, 'B/s')}"


def _crossing(trace: Trace, phase: str) -> tuple[str, str, str]:
    """(text before the crossing, text after it, the mark's label)."""
    at = trace.crossover
    if phase == "prefill":
        if at is None:
            before = "All tokens of the prompt pass at once, and still so few that the processor waits for memory."
        else:
            before = (
                f"All tokens pass at once: from about {counted(at, 'token')} on, the processor is what takes longer."
            )
        return (
            before,
            "Each weight that is read serves all tokens of the prompt: the memory waits.",
            "processor = memory",
        )
    if at is None:
        before = "A step of this model reads more weights than cache, however long the context."
    else:
        before = f"From {counted(at, 'token')} on, a step reads more cache than weights."
    after = "Now a step reads more cache than weights: from here on, most of it goes into the cache."
    return before, after, "cache = weights"


def _frame(frame: Frame) -> dict[str, Any]:
    moved, time = binary_bytes(frame.moved_bytes), duration(frame.time_s)
    return {
        "weights": frame.weight_bytes,
        "cache": frame.cache_bytes,
        "binds": frame.binds,
        "busy": frame.busy,
        "text": {
            "context": f"{frame.context:,}",
            "weights": binary_bytes(frame.weight_bytes),
            "cache": binary_bytes(frame.cache_bytes),
            "moved": moved,
            "flops": decimal(frame.flops, "FLOP"),
            "intensity": significant(frame.intensity),
            "time": time,
            "share": f"{significant(100 * frame.cache_share, 2)} %",
            "summary": f"{moved} moved, {time}",
            "busy": "" if frame.busy is None else f"busy {significant(100 * frame.busy, 2)} % of it",
        },
    }
