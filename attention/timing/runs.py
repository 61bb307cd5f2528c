"""A run: a finished set of timings and their machine. It is kept, shared, downloaded and uploaded.

A run is one JSON document of at most 1 MB. :func:`parse` reads every document from outside and trusts nothing in it:
every figure that follows from others must agree with them.

The checks are written by hand on purpose. msgspec's messages leave out the value ("Expected `float` >= 0.0") or what is
accepted ("Invalid enum value 'god'"), and pydantic would take 54 ms to load before the first page with timings.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from attention.errors import NotFiniteError, shown
from attention.kernels.case import Result, case_bytes
from attention.settings import PROJECT
from attention.spec import check_size
from attention.tables import to_csv

FORMAT = 1
MAX_BYTES = 1_000_000
MAX_RESULTS = 2_000
MAX_TEXT = 300
MAX_ROUNDS = 1_000
SOURCES = ("server", "command line", "recorded", "uploaded")
NUMBERS = (
    *("median_s", "iqr_s", "bytes_per_s", "error", "floor_s", "times_floor", "tolerance"),
    *("read_bytes_per_s", "flops_per_s"),
)
"""A timing's numbers. Each is at least 0, or null where it was not measured."""
RECORDED = Path(__file__).parents[1] / "data" / "runs"


@dataclass(frozen=True)
class Run:
    """Timings taken together on one machine.

    Attributes:
        results: in the order they were taken.
        host: the machine, as ``attention.timing.host.describe().to_json()`` says it.
        calibration: the rates of its device, as ``Calibration.to_json()``; empty if not measured.
        created: time of the run, UTC, ISO 8601.
        versions: versions of the programs that decide the timing.
        source: where the run comes from, one of SOURCES; it says how far a reader may trust the run.
        title: what was timed, in a few words.
        id: the token of the run's link, empty until the run is kept.
    """

    results: tuple[Result, ...]
    host: dict[str, Any]
    calibration: dict[str, Any]
    created: str
    versions: dict[str, str]
    source: str
    title: str
    id: str = ""

    @property
    def device(self) -> str:
        return self.results[0].case.device if self.results else "cpu"

    @property
    def processor(self) -> str:
        """Name of the processor that was timed."""
        gpus = self.host.get("gpus") or []
        if self.device == "cuda" and gpus and isinstance(gpus[0], dict):
            return str(gpus[0].get("name", "CUDA device"))
        return str(self.calibration.get("name") or self.host.get("cpu") or "unnamed processor")

    @property
    def label(self) -> str:
        """The machine in a few words, for a legend."""
        # trade marks and clock rates only make the name longer
        name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", "", self.processor)
        threads = self.calibration.get("threads") or self.host.get("threads")
        cores = f", {threads} threads" if self.device == "cpu" and threads else ""
        return f"{' '.join(name.split())}{cores}"

    def to_json(self) -> dict[str, Any]:
        """The document. It shares no object with this run, since a process reads recorded runs once and keeps them."""
        return {
            "headshare_run": FORMAT,
            "title": self.title,
            "created": self.created,
            "source": self.source,
            "versions": dict(self.versions),
            "host": deepcopy(self.host),
            "calibration": deepcopy(self.calibration),
            "results": [result.to_json() for result in self.results],
        }

    def dumps(self) -> str:
        """The run as JSON text that :func:`parse` reads."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        # a timing's repeats on one line
        return re.sub(r"\[\s+([-+.\de,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)

    def to_csv(self) -> str:
        """One line per timing, each stamped with the machine and the versions."""
        stamp = {
            "created": self.created,
            "host": self.label,
            "system": self.host.get("system", ""),
            **{f"{name}_version": text for name, text in sorted(self.versions.items())},
        }
        return to_csv([{**r.to_json(), "times_s": " ".join(map(str, r.times_s)), **stamp} for r in self.results])


def new(
    results: Iterable[Result],
    *,
    host: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    source: str = "server",
) -> Run:
    """A run with the time of now, on this machine or on `host`."""
    from attention.timing.host import describe

    results = tuple(results)
    return Run(
        results=results,
        host=dict(describe().to_json() if host is None else host),
        calibration=dict(calibration or {}),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        source=source,
        title=title_of(results),
    )


def versions() -> dict[str, str]:
    """Versions of the programs that decide a timing. A program that is not installed is left out."""
    found = {"headshare": _own_version()}
    for name in ("torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _own_version() -> str:
    return str(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"])


def title_of(results: Iterable[Result]) -> str:
    """What was timed: "decode, 32 query heads of 128, K/V heads 32, 8, 1, float32"."""
    results = tuple(results)
    if not results:
        return "nothing timed"

    def listed(name: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(result.case, name)) for result in results))

    return (
        f"{listed('phase')}, {listed('n_heads')} query heads of {listed('head_dim')}, "
        f"K/V heads {listed('n_kv_heads')}, {listed('dtype')}"
    )[:MAX_TEXT]


def parse(text: str | bytes) -> Run:
    """Read a run from outside.

    Raises:
        ValueError: too long, not JSON, or a field that is missing, unknown, of the wrong type, out of range, or at
            odds with the others; the message names it.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"a run's file is at most {MAX_BYTES:,} bytes, got {len(text):,}")
    values = strict_json(text, "this is not a run's file: it is no JSON")
    if not isinstance(values, dict) or values.get("headshare_run") != FORMAT:
        raise ValueError('this is not a run\'s file: it must be a JSON object with "headshare_run": 1')
    known = {"headshare_run", "title", "created", "source", "versions", "host", "calibration", "results"}
    if surplus := set(values) - known:
        raise ValueError(f"unknown field {shown(sorted(surplus)[0])}")
    if missing := known - set(values):
        raise ValueError(f"a run must say its {sorted(missing)[0]}")
    rows = values["results"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_RESULTS:
        raise ValueError(f"results must be a list of 1 to {MAX_RESULTS:,} timings")
    if values["source"] not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {shown(values['source'])}")
    if not isinstance(values["host"], dict) or not isinstance(values["host"].get("cpu"), str):
        raise ValueError("host must be an object that names its cpu")
    results = tuple(_result(row, number) for number, row in enumerate(rows, 1))
    if len({result.case.device for result in results}) > 1:
        raise ValueError("results must be of one device")
    return Run(
        results=results,
        host=_plain("host", values["host"]),
        calibration=_plain("calibration", values["calibration"]),
        created=_time(values["created"]),
        versions={str(k): _text("versions", v) for k, v in _plain("versions", values["versions"]).items()},
        source=values["source"],
        title=_text("title", values["title"]),
    )


def uploaded(text: str | bytes) -> Run:
    """Read a visitor's run, like :func:`parse`. Its source becomes "uploaded", whatever the document says."""
    return replace(parse(text), source="uploaded")


def strict_json(text: str | bytes, otherwise: str) -> Any:
    """The values of a JSON document from outside.

    Raises:
        NotFiniteError: a NaN or an infinity.
        ValueError: the text is no JSON; the message is `otherwise`.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except NotFiniteError:
        raise
    except (ValueError, RecursionError):
        raise ValueError(otherwise) from None


def _no_constant(name: str) -> float:
    raise NotFiniteError(f"numbers must be finite, got {name}")


def _result(row: Any, number: int) -> Result:
    """Read one timing and check that its figures agree with each other and with its shape."""
    try:
        result = Result.from_json(row)
        case = result.case
        if not re.fullmatch(r"[a-z0-9_]{1,40}", case.implementation):
            raise ValueError(f"implementation must be a name, got {shown(case.implementation)}")
        if case.device == "auto":
            raise ValueError("device must say where it was timed, got 'auto'")
        for name in NUMBERS:
            _number(name, getattr(result, name))
        check_size("repeats", result.repeats, minimum=0, maximum=10**6)
        _text("note", result.note)
        _text("unsteady", result.unsteady)
        _repeats(result)
        if result.bound not in ("", "memory", "arithmetic"):
            raise ValueError(f"bound must be memory or arithmetic, got {shown(result.bound)}")
        if result.median_s:
            _agrees("bytes_per_s", result.bytes_per_s, case_bytes(case) / result.median_s)
            if result.floor_s:
                _agrees("times_floor", result.times_floor, result.median_s / result.floor_s)
    except ValueError as error:
        raise ValueError(f"timing {number}: {error}") from None
    return result


def _repeats(result: Result) -> None:
    """Check that the times of the rounds agree with their median and their number."""
    check_size("together", result.together, minimum=0, maximum=10**6)
    if not isinstance(result.times_s, tuple) or len(result.times_s) > MAX_ROUNDS:
        raise ValueError(f"times_s must be a list of at most {MAX_ROUNDS} numbers, got {shown(result.times_s)}")
    for seconds in result.times_s:
        _number("times_s", seconds)
    if result.times_s:
        if len(result.times_s) != result.repeats:
            raise ValueError(f"times_s must hold repeats = {result.repeats} numbers, got {len(result.times_s)}")
        _agrees("median_s", result.median_s, median(result.times_s))


def _number(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
        raise ValueError(f"{name} must be a number of at least 0 or null, got {shown(value)}")


def _agrees(name: str, value: float | None, expected: float) -> None:
    if value is None or not math.isclose(value, expected, rel_tol=1e-3):
        raise ValueError(f"{name} must be {expected:.4g} with these figures, got {shown(value)}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"{name} must be a line of at most {MAX_TEXT} characters, got {shown(value)}")
    return value


def _time(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(_text("created", value))
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise ValueError(f"created must be a time with its zone in ISO 8601, got {shown(value)}") from None


def _plain(name: str, value: Any, depth: int = 3) -> Any:
    """`value`, if it is a small value of plain JSON."""
    if isinstance(value, str):
        return _text(name, value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not abs(value) < 1e30:
            raise ValueError(f"{name} must be a smaller number")
        return value
    if depth and isinstance(value, list) and len(value) <= 64:
        return [_plain(name, item, depth - 1) for item in value]
    if depth and isinstance(value, dict) and len(value) <= 64:
        return {_text(name, key): _plain(f"{name}.{key[:40]}", item, depth - 1) for key, item in value.items()}
    raise ValueError(f"{name} must hold text, numbers and short lists of them")


@cache
def recorded() -> tuple[Run, ...]:
    """The runs that ship with this project, each measured on the machine that it names: first of processors, then of
    GPUs, the newest first."""
    runs = [replace(parse(path.read_bytes()), id=path.stem) for path in sorted(RECORDED.glob("*.json"))]
    runs.sort(key=lambda run: run.created, reverse=True)
    return tuple(sorted(runs, key=lambda run: run.device != "cpu"))
