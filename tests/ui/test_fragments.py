"""A panel runs again without its page. So its function may use its arguments, and nothing that the page sets.

By then the state of a control that is not drawn is gone, and a name that the page assigns further down does not exist
yet or has the value of another run.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "ui").rglob("*.py")])


def drawn_by_panels(tree: ast.Module) -> Iterator[str]:
    """Names of the functions handed to ``jobs.panel``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("jobs.panel", "panel") and len(node.args) > 1:
            yield ast.unparse(node.args[1])


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def faults(source: str, page: bool = True) -> list[str]:
    """What is wrong with the functions of a module that panels draw, and with all functions of a page."""
    tree = ast.parse(source)
    known = functions(tree)
    found: list[str] = []
    for name in drawn_by_panels(tree):
        function = known.get(name.rpartition(".")[2])
        if function is None:
            continue  # it is from another module, and is checked there
        if "session_state" in ast.unparse(function):
            found.append(f"{name} reads st.session_state")
    if not page:
        return found
    fixed = {name for node in tree.body for name in defined(node)} | set(dir(builtins))
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        own = {a.arg for a in ast.walk(function) if isinstance(a, ast.arg)}
        own |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own |= {n.name for n in ast.walk(function) if isinstance(n, ast.FunctionDef)}
        names = (n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
        found.extend(
            f"{function.name} uses {name}, which the page assigns while it runs"
            for name in names
            if name not in own | fixed
        )
    return found


def defined(node: ast.stmt) -> list[str]:
    """Names that a statement at a module's top level gives for good: imports, definitions, constants."""
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [(alias.asname or alias.name).partition(".")[0] for alias in names]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.If():  # if TYPE_CHECKING
            return [name for inner in node.body for name in defined(inner)]
    return []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_panels_draw_from_their_arguments(path: Path) -> None:
    assert faults(path.read_text(), page="ui" not in path.relative_to(ROOT).parts) == []


def test_the_check_finds_what_it_is_for() -> None:
    reads_a_control = "def draw(job):\n    st.session_state['t_view']\njobs.panel('timings', draw)\n"
    assert faults("import st, jobs\n" + reads_a_control) == ["draw reads st.session_state"]
    assigned_below = (
        "def draw(job):\n    return found\nwith frame.page():\n    found = 1\n    jobs.panel('timings', draw)\n"
    )
    assert faults("import frame, jobs\n" + assigned_below) == ["draw uses found, which the page assigns while it runs"]
