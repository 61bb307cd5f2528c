"""Which layers of a GGUF file have windows, by the rules of llama.cpp.

Source: ggml-org/llama.cpp, ``load_arch_hparams`` in ``src/models/*.cpp`` and ``set_swa_pattern`` in
``src/llama-hparams.cpp`` (autumn 2026). A file may hold a list with an entry for each layer, or a period. Where it
holds neither, the architecture's own period counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from attention.configs.families.ordinary import CHUNKED, FULL, SLIDING
from attention.errors import shown
from attention.spec import check_size


class Window(NamedTuple):
    """The rule of one architecture.

    Attributes:
        period: one layer in each `period` layers is full (0: none is) where the file holds no pattern; None: the file
            must hold a list.
        full_first: whether the full layer is the first of its period, not the last.
        default: the window where the file states none, in positions.
        optional: whether all layers are full where the file states no window.
        fixed: the window whatever the file states, unless it states 0.
        chunked: whether the windows are chunks.
        n_layers: the only number of layers with which the architecture has windows; None: any.
    """

    period: int | None = None
    full_first: bool = False
    default: int | None = None
    optional: bool = False
    fixed: int | None = None
    chunked: bool = False
    n_layers: int | None = None


WINDOWS = {
    "phi3": Window(0, optional=True),  # every layer has the window, as in its config.json
    "gemma2": Window(2, default=4096),
    "gemma3": Window(6, optional=True),
    "gemma3n": Window(5),
    "cohere2": Window(4),
    "cohere2moe": Window(4, full_first=True),
    "gpt-oss": Window(2),
    "exaone4": Window(4, default=4096, n_layers=64),
    "exaone-moe": Window(4),
    "muse-glimmer": Window(4),
    "llama4": Window(4, default=8192, fixed=8192, chunked=True),
    "smallthinker": Window(4, full_first=True, optional=True, fixed=4096),
    "plamo3": Window(8, optional=True),
    "laguna": Window(4, full_first=True, optional=True),
    **dict.fromkeys(("olmo2", "afmoe", "mellum"), Window(4, optional=True)),
    **dict.fromkeys(("gemma4", "mimo2", "step35", "granite_swa", "maple", "spark2_5"), Window()),
}
UNSTATED = {
    "starcoder2": "a GGUF of this architecture has no window, though its config.json may: llama.cpp applies none, and "
    "all positions are counted"
}
"""Architectures with published windows that no header states. Mistral-7B-v0.1 is another case: its files name the
architecture llama."""


def layers(arch: str, get: Callable[[str], Any], n_layers: int, notes: list[str]) -> tuple[list[str], int | None]:
    """(the kind of each layer, the window in positions or None).

    Args:
        arch: the architecture; get: gives the value of one of its keys, None if the file does not have it.
        notes: gets a note for everything that comes from a rule and not from the file.

    Raises:
        ValueError: a missing or wrong key; the message names the key, its value and what is accepted.
    """
    full = [FULL[0]] * n_layers
    if arch in UNSTATED:
        notes.append(UNSTATED[arch])
    rule, stated = WINDOWS.get(arch), get("attention.sliding_window")
    if stated is not None:
        check_size(f"{arch}.attention.sliding_window", stated, 0)
    if rule is None or (rule.n_layers or n_layers) != n_layers:
        if stated:
            notes.append(f"{arch}.attention.sliding_window = {stated:,} is stated, but llama.cpp gives this "
                         "architecture no windows: all positions of all layers are counted")  # fmt: skip
        return full, None
    if stated == 0 or (stated is None and rule.optional):
        return full, None
    window = rule.fixed or stated or rule.default
    if window is None:
        raise ValueError(f"{arch}.attention.sliding_window is missing: llama.cpp requires it of this architecture")
    if window != stated:
        instead = "is not stated" if stated is None else f"= {stated:,} is stated"
        notes.append(f"{arch}.attention.sliding_window {instead}; llama.cpp takes {window:,}, as counted here")
    if arch == "phi3":
        notes.append("llama.cpp keeps all positions of this architecture, its window notwithstanding; counted is what "
                     "the window leaves")  # fmt: skip
    slides = _pattern(arch, rule, get("attention.sliding_window_pattern"), n_layers, notes)
    word = CHUNKED[0] if rule.chunked else SLIDING[0]
    return [word if slide else FULL[0] for slide in slides], window if any(slides) else None


def _pattern(arch: str, rule: Window, stated: Any, n_layers: int, notes: list[str]) -> list[bool]:
    """Whether each layer has a window."""
    key = f"{arch}.attention.sliding_window_pattern"
    if isinstance(stated, list):
        if len(stated) < n_layers or any(value not in (0, 1) for value in stated):
            raise ValueError(f"{key} must hold true or false for each of the {n_layers} layers, got {shown(stated)}")
        return [bool(value) for value in stated[:n_layers]]
    if rule.period is None:
        raise ValueError(f"{key} must be a list with an entry for each of the {n_layers} layers, got {shown(stated)}")
    period = rule.period if stated is None else check_size(key, stated, 0)
    if period == 0:
        return [True] * n_layers
    if stated is None:
        where = "first" if rule.full_first else "last"
        notes.append(f"{key} is not stated; llama.cpp's own is used: of {period} layers the {where} is full")
    at = 0 if rule.full_first else period - 1
    return [index % period != at for index in range(n_layers)]
