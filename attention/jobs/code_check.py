"""Worker job "code_check", for the code lesson's *Run it*: counts and checks of the shown classes at chosen sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from attention.lessons.code import Sizes


def run(payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]) -> dict:
    """Payload: the fields of ``lessons.code.Sizes``. Emits the rows of ``lessons.code_check``; returns their number.

    Raises:
        ValueError: a size out of range.
    """
    names = [f.name for f in fields(Sizes)]
    sizes = Sizes(**{name: payload[name] for name in names if name in payload})
    from attention.lessons import code_check

    n = 0
    for rows in (code_check.counts(sizes), code_check.equalities(sizes)):
        for row in rows:
            emit(row)
            n += 1
            if should_stop():
                return {"n_rows": n}
    return {"n_rows": n}
