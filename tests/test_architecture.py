"""docs/architecture.md names functions that are there, and no file is longer than a reader can hold."""

from __future__ import annotations

import re

from tests.server import ROOT


def test_every_named_function_is_where_it_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:ui|attention|viz|pages)/\w+(?:/\w+)*\.py) (\w+)(?:\.(\w+))?`", text)
    assert len(named) > 8
    for path, name, method in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(def |class )?{name}\b", source, re.M), (path, name)
        assert not method or re.search(rf"^    def {method}\b", source, re.M), (path, name, method)


LINES_OF_A_FILE = 350


def test_no_python_file_is_longer_than_a_reader_can_hold() -> None:
    folders = ("attention", "bench", "deploy", "pages", "tests", "ui", "viz")
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    lines = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in paths}
    assert len(lines) > 500
    assert {path: n for path, n in lines.items() if n > LINES_OF_A_FILE} == {}
