"""A printed table has every row, writes numbers as the column on the screen does, and contains no stranger's markup."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from ui import printed


def test_every_row_and_every_kind_of_value() -> None:
    number = st.column_config.NumberColumn
    shown = printed.table(
        {"name": ["<b>a</b>", None], "bytes": [1234567, 8], "share": [12.345, None], "agrees": [True, False]},
        {"share": number(format="%.1f"), "bytes": number(format="localized"), "name": "Name"},
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown)
    assert cells == ["&lt;b&gt;a&lt;/b&gt;", "1,234,567", "12.3", "yes", "–", "8", "–", "no"]
    assert re.findall(r"<th>(.*?)</th>", shown) == ["name", "bytes", "share", "agrees"]


def test_what_is_left_out_is_said() -> None:
    shown = printed.table({"n": range(printed.MOST_ROWS + 7)}, {})
    assert shown.count("<tr>") == 1 + printed.MOST_ROWS
    assert "7 more rows are left out here" in shown
    assert "left out" not in printed.table({"n": range(printed.MOST_ROWS)}, {})


def test_pages_draw_no_table_that_paper_would_cut() -> None:
    root = Path(__file__).resolve().parents[2]
    drawn = [path for folder in ("ui", "pages") for path in (root / folder).rglob("*.py")] + [root / "app.py"]
    assert [path.name for path in drawn if "st.dataframe(" in path.read_text(encoding="utf-8")] == ["frame.py"]
