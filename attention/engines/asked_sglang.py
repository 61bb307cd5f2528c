"""The recorded answers of SGLang's own code for every model of the catalogue, beside what is computed.

``python -m attention verify --engine sglang --record`` fills ``data/engines_sglang.json``; page and tests read it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attention.catalog import published
from attention.engines import ask_sglang
from attention.engines.asked import Row, write
from attention.engines.rules import conv_kernel
from attention.engines.sglang import Settings, slots
from attention.spec import ModelSpec

FILE = Path(__file__).parents[1] / "data" / "engines_sglang.json"
MEMORY_BYTES = 250 * 10**9
ASKED: dict[str, dict[str, Any]] = {
    "bf16": {},
    "fp8, page 64": {"kv_dtype": "fp8", "page_tokens": 64},
    "bf16, 4 ranks": {"tp": 4},
}
"""The settings by their name in the record. SGLang's slots do not depend on a context."""
EXPLAINED = {
    (
        "ibm-granite/granite-4.0-h-micro",
        "bf16, 4 ranks",
    ): "SGLang copies the one group of B and C to every rank; here it "
    "is counted as divided, which is 0.2 % of a sequence",
}
"""Why an answer differs, by model and settings."""
CONTEXT = 0
"""Stands in the record for no context."""


def settings_of(spec: ModelSpec, kernel: int | None, kind: str) -> Settings:
    """The settings for one question. Every model is asked for in bf16."""
    return Settings(conv_kernel=kernel, dtype="bf16", **ASKED[kind])


def record(progress: Callable[[str], None], path: Path = FILE) -> list[Row]:
    """Ask SGLang for every model of the catalogue, and write the file.

    Raises:
        ValueError: the wheel is not installed, or SGLang does not answer.
    """
    about = {"sglang": f"sglang {ask_sglang.asked_version()}", "date": datetime.now(UTC).date().isoformat()}
    about["memory"] = f"{MEMORY_BYTES} bytes"
    wanted: list[tuple[str, str, str | None]] = []
    sent: list[ask_sglang.Question] = []
    for row in published.models():
        if row.spec is None or row.config is None:
            continue
        for kind in ASKED:
            settings, reason = settings_of(row.spec, conv_kernel(row.config), kind), None
            try:
                slots(row.spec, settings)
            except ValueError as error:
                reason = str(error)
            else:
                sent.append(ask_sglang.Question(row.spec, row.config, settings, MEMORY_BYTES))
            wanted.append((row.id, kind, reason))
        progress(row.id)
    answers = iter(ask_sglang.ask(sent))
    rows = []
    for model, kind, reason in wanted:
        answer = ask_sglang.Answer("", "", reason) if reason else next(answers)
        asked, told = (None, None) if answer.reason else (answer.asked, answer.computed)
        rows.append(Row(model, CONTEXT, kind, asked, told, answer.reason))
    write(path, about, rows)
    return rows


def computed_now(row: Row, spec: ModelSpec, kernel: int | None) -> str:
    """The computed line for a recorded row, by the current rules.

    Raises:
        ValueError: a layout that is not known here.
    """
    return ask_sglang.computed(spec, settings_of(spec, kernel, row.kind), MEMORY_BYTES)
