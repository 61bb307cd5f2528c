"""All of the program's own exceptions are in one tree, and the docstring shows that tree as it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from attention import errors

ROOT = Path(__file__).resolve().parents[1]
OWN = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, Exception)}


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    root = ""
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    (├── |└── )?(\w+)", line):
            root = root if found[1] else found[2]
            if found[1]:
                drawn[found[2]] = root
    assert drawn == {name: cls.__base__.__name__ for name, cls in OWN.items() if cls.__base__}
    assert len(drawn) >= 6


def test_no_exception_is_defined_elsewhere_or_told_apart_by_its_name() -> None:
    files = [p for part in ("attention", "viz", "ui", "pages") for p in (ROOT / part).rglob("*.py")]
    for path in (*files, ROOT / "serve.py", ROOT / "app.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py":
                bases = " ".join(ast.unparse(base) for base in node.bases)
                assert not re.search(r"Error\b|Exception\b", bases), f"{path}: {node.name}"
        assert not re.search(r"__name__ [=!]= \"\w*(Error|Exception)\"", text), path
