"""Asks SGLang's own code, on a CPU and without weights, for the slots of its pools.

SGLang runs in its own process with the wheel ``sglang`` (requirements-sglang.txt), of which only the Python files are
used. ``sglang_planner`` runs there: SGLang reads the configuration itself, so its reading of heads, windows and states
is compared too. This module makes the requests and compares the answers with the computed slots.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from attention.engines import planner_process
from attention.engines.sglang import Settings, slots
from attention.spec import ModelSpec

PLANNER = Path(__file__).with_name("sglang_planner.py")
SECONDS = 600.0
"""Longest time for all answers."""


class Question(NamedTuple):
    """One model, settings and memory.

    Attributes:
        spec: the model; config: its configuration, which SGLang reads; memory_bytes: bytes for the pools of one rank.
    """

    spec: ModelSpec
    config: Mapping[str, Any]
    settings: Settings
    memory_bytes: int


class Answer(NamedTuple):
    """SGLang's answer and the computed one, each as one line, see ``said``.

    Attributes:
        reason: why SGLang gives no answer, else None.
    """

    asked: str
    computed: str
    reason: str | None = None

    @property
    def equal(self) -> bool:
        return self.reason is None and self.asked == self.computed


def asked_version() -> str:
    """The version of the installed wheel ``sglang``.

    Raises:
        ValueError: the wheel is not installed.
    """
    if importlib.util.find_spec("sglang") is None:
        raise ValueError("sglang is not installed: pip install --no-deps -r requirements-sglang.txt")
    from importlib.metadata import version

    return version("sglang")


def ask(asked: Iterable[Question]) -> list[Answer]:
    """SGLang's pools beside the computed ones, for each question.

    Raises:
        ValueError: the wheel is not installed, SGLang does not answer, or the layout of a model is not known here.
    """
    asked_version()
    asked = list(asked)
    lines = [computed(one.spec, one.settings, one.memory_bytes) for one in asked]
    answers = planner_answers([request(one) for one in asked])
    return [Answer(said(answer), line, answer.get("refused")) for answer, line in zip(answers, lines, strict=True)]


def said(answer: Mapping[str, Any]) -> str:
    """An answer in one line: slots of tokens, of windowed layers and of states, with 0 left out."""
    if "refused" in answer:
        return str(answer["refused"])
    words = {"tokens": "tokens", "window_tokens": "tokens of windowed layers", "states": "states"}
    return ", ".join(f"{answer[name]} {word}" for name, word in words.items() if answer[name]) or "nothing"


def computed(spec: ModelSpec, settings: Settings, memory_bytes: int) -> str:
    """The same line by the rules of ``sglang``.

    Raises:
        ValueError: a layout that is not known here.
    """
    pool = slots(spec, settings)
    tokens, windowed = pool.tokens(memory_bytes)
    return said({"tokens": tokens, "window_tokens": windowed, "states": pool.states(memory_bytes)})


def request(one: Question) -> dict[str, Any]:
    """The request that is sent to ``sglang_planner``."""
    settings = one.settings
    return {
        "config": dict(one.config),
        "tp": settings.tp,
        "kv_dtype": settings.kv_dtype,
        "page": settings.page_tokens,
        "memory": one.memory_bytes,
        "window_ratio": settings.window_ratio,
        "state_ratio": settings.state_ratio,
    }


def planner_answers(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer of SGLang's own code to each request, from a process of its own."""
    return planner_process.answers(
        PLANNER, requests, SECONDS, "SGLang did not answer: is all of requirements-sglang.txt installed?"
    )
