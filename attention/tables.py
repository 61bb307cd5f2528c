"""Rows of plain values as CSV, JSON and Markdown for download, and as text for a terminal.

No library makes the tables: tabulate takes 33 ms to load and rich 30 ms, and ``python -m attention kv`` takes 80 ms in
all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attention.foreign_text import cell, markdown

Row = Mapping[str, Any]


def to_csv(rows: Sequence[Row]) -> str:
    """Comma-separated text with a heading line. None is an empty cell; no cell can run as a formula."""
    import csv  # late: a command that prints columns does not need it
    import io

    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def to_json(rows: Sequence[Row], **stamp: Any) -> str:
    """The rows and the inputs (`stamp`) for which they were computed: ``{"context": …, "rows": […]}``."""
    return json.dumps({**stamp, "rows": [dict(row) for row in rows]}, ensure_ascii=False, indent=1)


def to_markdown(rows: Sequence[Row]) -> str:
    """A GitHub table. Columns of numbers are right-aligned; Markdown in a cell is escaped."""
    if not rows:
        return ""
    keys = list(rows[0])
    right = [all(isinstance(row[key], int | float | None) for row in rows) for key in keys]
    lines = [keys, ["---:" if r else "---" for r in right]]
    lines += [["" if row[key] is None else markdown(" ".join(str(row[key]).split())) for key in keys] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def to_text(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Cells in columns for a terminal, with two blanks between columns.

    The first `left` columns are left-aligned, the others right-aligned.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{c:{'<' if i < left else '>'}{widths[i]}}" for i, c in enumerate(line)).rstrip() for line in lines
    )
