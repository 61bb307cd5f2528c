"""docs/architecture.md names functions that are there."""

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
