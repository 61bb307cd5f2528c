"""Tables for paper. On the screen a table draws only the rows in view, so a printer would get no other rows."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

MOST_ROWS = 500


def table(columns: Mapping[str, Sequence[Any]], formats: Mapping[str, Any]) -> str:
    """The table as HTML that only paper shows; it has at most MOST_ROWS rows and says how many are left out.

    Args:
        columns: heading -> values, all of one length.
        formats: heading -> ``st.column_config`` of that column; only its number format is used.
    """
    patterns = [_pattern(formats.get(name)) for name in columns]
    rows = list(zip(*columns.values(), strict=True))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(_cell(value, pattern) for value, pattern in zip(row, patterns, strict=True)) + "</tr>"
        for row in rows[:MOST_ROWS]
    )
    left_out = len(rows) - MOST_ROWS
    note = f"<p>{left_out:,} more rows are left out here.</p>" if left_out > 0 else ""
    return f'<div class="hs-printed"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>'


def _pattern(config: Any) -> str | None:
    return (config or {}).get("type_config", {}).get("format") if isinstance(config, Mapping) else None


def _cell(value: Any, pattern: str | None) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        text = pattern % value if pattern and pattern.startswith("%") else f"{value:,}"
        return f'<td class="number">{text}</td>'
    return f"<td>{html.escape(str(value))}</td>"
