"""docs/architecture.md names functions that are there; files stay short; tests ask for what is public."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

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


OURS = ("attention", "ui", "viz", "pages", "bench", "deploy", "serve")


def private_names(source: str) -> list[str]:
    """Names with an underscore that the source takes out of modules or classes of the project."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    imports = [node for node in imports if str(node.module).split(".")[0] in OURS]
    names = [alias for node in imports for alias in node.names]
    bound = {alias.asname or alias.name for alias in names}
    found = [alias.name for alias in names if alias.name.startswith("_")]
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(name) | ast.Call(ast.Name(name)), attribute):
                taken = name, attribute
            case ast.Call(ast.Attribute(_, "setattr"), [ast.Name(name), ast.Constant(str(attribute)), *_]):
                taken = name, attribute
            case _:
                continue
        if taken[0] in bound and re.match(r"_(?!_|replace\b|asdict\b|fields\b)", taken[1]):
            found.append(".".join(taken))
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from attention.spec import _x, y\ny._replace(a=1)", ["_x"]),
        ("from ui import jobs\njobs._hidden()\njobs.shown()", ["jobs._hidden"]),
        ("from attention import store\nmonkeypatch.setattr(store, '_store', 1)", ["store._store"]),
        ("from torch import nn\nnn._hidden", []),
    ],
)
def test_private_names_are_found(source: str, found: list[str]) -> None:
    assert private_names(source) == found


def test_tests_ask_only_for_public_names() -> None:
    may_hold = re.compile(r"\._[a-z]|, [\"']_[a-z]|import .*\b_[a-z]|^ +_[a-z]\w*,$", re.M)
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    sources = {str(path): path.read_text(encoding="utf-8") for path in paths}
    found = {path: private_names(text) for path, text in sources.items() if may_hold.search(text)}
    assert {path: names for path, names in found.items() if names} == {}
