"""Which layers of a GGUF's architecture have windows, by the rules of llama.cpp.

Source: ggml-org/llama.cpp, ``load_arch_hparams`` in ``src/models/*.cpp`` and ``set_swa_pattern`` in
``src/llama-hparams.cpp`` (autumn 2026). A file may hold a list with an entry for each layer, or a period; where it
holds neither, the architecture's own period counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from attention.configs.families.ordinary import CHUNKED, FULL, SLIDING
from attention.errors import shown
from attention.spec import check_size


class Window(NamedTuple):
    """A rule.

    Attributes:
        period: one layer of so many is full where the file holds no pattern; None: it must hold a list.
        full_first: whether the full layer is the first of its period, not the last.
        default: window where the file is silent; optional: without one all layers are full.
        fixed: window whatever the file says, unless that is 0.
        chunked: whether the windows are chunks.
        n_layers: the only depth that has windows.
    """

    period: int | None = None
    full_first: bool = False
    default: int | None = None
    optional: bool = False
    fixed: int | None = None
    chunked: bool = False
    n_layers: int | None = None


WINDOWS = {
    "phi3": Window(0, optional=True),  # of every layer, as its config.json has it
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
"""Windows of published models that no header states. Mistral-7B-v0.1 is another, under the name of llama."""


def layers(arch: str, get: Callable[[str], Any], n_layers: int, notes: list[str]) -> tuple[list[str], int | None]:
    """(A word for each layer, the window; None without one.)

    Args:
        arch: the architecture; get: the value of one of its keys, None if the file has it not.
        notes: grows by what is taken from a rule and not from the file.

    Raises:
        ValueError: naming the key, its value and what is accepted.
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
    """Which layers slide."""
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
