"""Finished timings of kinds of cache and their machine: one JSON document, checked field by field when it is read.

Free of torch, so that pages can show recorded timings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from attention.errors import shown
from attention.kernels.kinds.case import KindResult
from attention.settings import PROJECT
from attention.spec import check_size
from attention.timing import runs

FORMAT = 1
MAX_BYTES = 4_000_000
MAX_RESULTS = 4_000
RECORDED = PROJECT / "attention" / "data" / "kinds"
_FIELDS = {"headshare_kinds", "created", "versions", "host", "calibration", "results"}
_NUMBERS = ("median_s", "iqr_s", "error", "tolerance", "floor_s", "read_bytes_per_s", "flops_per_s")


@dataclass(frozen=True)
class KindRun:
    """Timings of kinds of cache taken together on one machine.

    Attributes:
        results: in the order they were taken; results with the same `together` were timed in the same rounds.
        host, calibration, created, versions: as in ``attention.timing.runs.Run``.
        id: the recorded document's name, or empty.
    """

    results: tuple[KindResult, ...]
    host: dict[str, Any]
    calibration: dict[str, Any]
    created: str
    versions: dict[str, str]
    id: str = ""

    @property
    def device(self) -> str:
        return self.results[0].case.device

    @property
    def label(self) -> str:
        """The machine in a few words."""
        return str(self.calibration.get("name") or self.host.get("cpu") or "unnamed processor")


def dumps(
    results: Iterable[KindResult],
    *,
    host: Mapping[str, Any],
    calibration: Mapping[str, Any],
    versions: Mapping[str, str],
    created: str,
) -> str:
    """The document that :func:`parse` reads: one line per timing, without the fields at their defaults."""
    values = {
        "headshare_kinds": FORMAT,
        "created": created,
        "versions": dict(versions),
        "host": dict(host),
        "calibration": dict(calibration),
    }
    head = json.dumps(values, indent=1, allow_nan=False).removesuffix("\n}")
    rows = (json.dumps(_short(result.to_row()), allow_nan=False) for result in results)
    return head + ',\n "results": [\n  ' + ",\n  ".join(rows) + "\n ]\n}"


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        return [short(item) for item in value] if isinstance(value, tuple) else value

    return {name: short(value) for name, value in row.items()}


def parse(text: str | bytes, name: str = "") -> KindRun:
    """Read a document of at most MAX_BYTES bytes.

    Raises:
        ValueError: too long, not JSON, or a field that is missing, unknown, of the wrong type, out of range, or at
            odds with the others; the message names it.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"timings of kinds are at most {MAX_BYTES:,} bytes, got {len(text):,}")
    values = runs.strict_json(text, "these are no timings of kinds: no JSON")
    if not isinstance(values, dict) or values.get("headshare_kinds") != FORMAT:
        raise ValueError('these are no timings of kinds: it must be a JSON object with "headshare_kinds": 1')
    if odd := set(values) ^ _FIELDS:
        raise ValueError(f"timings of kinds have {', '.join(sorted(_FIELDS))}; at odds is {shown(sorted(odd)[0])}")
    rows = values["results"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_RESULTS:
        raise ValueError(f"results must be a list of 1 to {MAX_RESULTS:,} timings")
    results = tuple(_result(row, number) for number, row in enumerate(rows, 1))
    if len({result.case.device for result in results}) > 1:
        raise ValueError("results must be of one device")
    return KindRun(
        results,
        host=runs._plain("host", values["host"]),
        calibration=runs._plain("calibration", values["calibration"]),
        created=runs._time(values["created"]),
        versions={str(k): runs._text("versions", v) for k, v in runs._plain("versions", values["versions"]).items()},
        id=name,
    )


def _result(row: Any, number: int) -> KindResult:
    try:
        result = KindResult.from_json(row)
        if not re.fullmatch(r"[a-z0-9_]{1,40}", result.case.implementation):
            raise ValueError(f"implementation must be a name, got {shown(result.case.implementation)}")
        if result.case.device == "auto":
            raise ValueError("device must say where it was timed, got 'auto'")
        for name in _NUMBERS:
            runs._number(name, getattr(result, name))
        check_size("together", result.together, minimum=0, maximum=10**6)
        for name in ("note", "unsteady"):
            runs._text(name, getattr(result, name))
        if result.bound not in ("", "memory", "arithmetic"):
            raise ValueError(f"bound must be memory or arithmetic, got {shown(result.bound)}")
        if not isinstance(result.times_s, tuple) or len(result.times_s) > runs.MAX_ROUNDS:
            raise ValueError(
                f"times_s must be a list of at most {runs.MAX_ROUNDS} numbers, got {shown(result.times_s)}"
            )
        for seconds in result.times_s:
            runs._number("times_s", seconds)
        if result.times_s:
            runs._agrees("median_s", result.median_s, median(result.times_s))
        if result.median_s and result.floor_s and result.floor_s > result.median_s * 1.001:
            raise ValueError(f"floor_s must be at most median_s = {result.median_s:.4g}, got {result.floor_s:.4g}")
    except ValueError as error:
        raise ValueError(f"timing {number}: {error}") from None
    return result


@cache
def recorded() -> tuple[KindRun, ...]:
    """The runs that ship with this project, each measured on the machine that it names, newest first."""
    found = [parse(path.read_bytes(), path.stem) for path in sorted(Path(RECORDED).glob("*.json"))]
    return tuple(sorted(found, key=lambda run: run.created, reverse=True))
