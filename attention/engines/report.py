"""What a log's figures mean: each reproduced to the digit printed, or its difference split into named bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from attention.engines.rules import rule

GIB = 2**30


class Part(NamedTuple):
    """Bytes with a name. `why`: in a sentence."""

    name: str
    n_bytes: int
    why: str = ""


class Finding(NamedTuple):
    """One figure of the log.

    Attributes:
        line: what was printed, in the engine's words.
        verdict: "reproduced" to the digit; "split", its parts have names; "unexplained", `parts` say how many bytes;
            "given", measured by the engine and computed by nobody.
        says: what it means. parts: of the bytes it stands for. rules: names of ``rules.RULES``.
    """

    line: str
    verdict: Literal["reproduced", "split", "unexplained", "given"]
    says: str
    parts: tuple[Part, ...] = ()
    rules: tuple[str, ...] = ()


class Change(NamedTuple):
    """What could be changed. `before` and `after`: tokens, in the same memory unless `what` says otherwise."""

    what: str
    before: int
    after: int


@dataclass(frozen=True)
class Report:
    """All that is said of one log. `settings`: what it was computed with; `notes`: what the reader must know."""

    engine: str
    version: str | None
    model: str
    settings: dict[str, Any]
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, with the sources of the rules that were used."""
        return {
            "engine": self.engine,
            "version": self.version,
            "model": self.model,
            "settings": self.settings,
            "figures": [
                {
                    "line": f.line,
                    "verdict": f.verdict,
                    "says": f.says,
                    "parts": [part._asdict() for part in f.parts],
                    "rules": [rule(self.engine, name)._asdict() for name in f.rules],
                }
                for f in self.findings
            ],
            "changes": [change._asdict() | {"gain": change.after - change.before} for change in self.changes],
            "notes": list(self.notes),
        }


class Rounded(NamedTuple):
    """A printed number of GiB: what was rounded to it lies in [low, high], in bytes."""

    low: int
    high: int
    shown: str

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2


def rounded(shown: str) -> Rounded:
    """The bytes that `shown` GiB, a decimal fraction, can stand for."""
    whole, _, digits = shown.partition(".")
    scale = 10 ** len(digits)
    units = int(whole + digits)
    return Rounded(-(-(2 * units - 1) * GIB // (2 * scale)), (2 * units + 1) * GIB // (2 * scale), shown)


def gib(n_bytes: int) -> str:
    """GiB as vLLM prints them."""
    return f"{n_bytes / GIB:.2f}"
