"""The lessons' text: filled in, short, and shown somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ui import lesson


def test_placeholders_are_filled_and_missing_ones_found() -> None:
    shown = lesson.text("code_trap", n_heads=6, n_kv_heads=3, group_size=2, head_dim=7)
    assert "k.repeat_interleave(2, dim=1)" in shown
    assert "[[" not in shown
    with pytest.raises(KeyError):
        lesson.text("code_trap", n_heads=6)


def test_every_lesson_is_short_and_used() -> None:
    root = Path(__file__).parents[2]
    code = "".join(p.read_text() for folder in ("pages", "ui") for p in (root / folder).rglob("*.py"))
    code += (root / "app.py").read_text()
    mine = ("why_", "spectrum", "published_", "code_", "learn_")
    files = [f for f in lesson.LESSONS.glob("*.md") if f.name.startswith(mine)]
    assert len(files) >= 12
    for file in files:
        text = file.read_text()
        assert len(re.sub(r"\$\$.*?\$\$", "", text, flags=re.S).split()) < 330, f"{file.name} is too long"
        assert f'"{file.stem}"' in code, f"{file.name} is shown nowhere"
