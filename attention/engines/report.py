"""What the figures of a log mean. A figure is reproduced to the printed digit, or its difference is split into named
bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from attention.engines.rules import rule

GIB = 2**30


class Part(NamedTuple):
    """A number of bytes with a name; `why` gives the reason in a sentence."""

    name: str
    n_bytes: int
    why: str = ""


class Finding(NamedTuple):
    """One figure of the log.

    Attributes:
        line: the printed line, in the engine's words.
        verdict: "reproduced": computed to the printed digit; "split": its bytes are divided into named parts;
            "unexplained": `parts` state how many bytes are not explained; "given": the engine measured or was told it,
            and it is not computed here.
        says: what the figure means.
        parts: the parts of its bytes; rules: names of rules in ``rules.RULES``.
    """

    line: str
    verdict: Literal["reproduced", "split", "unexplained", "given"]
    says: str
    parts: tuple[Part, ...] = ()
    rules: tuple[str, ...] = ()


class Change(NamedTuple):
    """A possible change of the settings.

    Attributes:
        before, after: tokens that fit, in the same memory unless `what` says otherwise.
    """

    what: str
    before: int
    after: int


@dataclass(frozen=True)
class Report:
    """The explanation of one log.

    Attributes:
        settings: the settings with which the figures were computed.
        notes: what the reader must know.
    """

    engine: str
    version: str | None
    model: str
    settings: dict[str, Any]
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain values, with the sources of its rules."""
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
    """A printed number of GiB. The number before rounding is in [low, high], in bytes."""

    low: int
    high: int
    shown: str

    @property
    def middle(self) -> int:
        """The middle of the interval, in bytes."""
        return (self.low + self.high) // 2


def rounded(shown: str) -> Rounded:
    """The bytes for which the decimal fraction `shown`, in GiB, can stand."""
    whole, _, digits = shown.partition(".")
    scale = 10 ** len(digits)
    units = int(whole + digits)
    return Rounded(-(-(2 * units - 1) * GIB // (2 * scale)), (2 * units + 1) * GIB // (2 * scale), shown)


def gib(n_bytes: int) -> str:
    """Bytes in GiB as vLLM prints them."""
    return f"{n_bytes / GIB:.2f}"
