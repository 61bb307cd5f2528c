"""The import contracts of pyproject.toml hold and can fail, and the modules they call free of torch do not load it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("attention", "viz", "ui", "pages")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
TORCH_FREE = next(c for c in CONTRACTS if "torch" in c.get("forbidden_modules", ()))["source_modules"]
HEAVY = ("torch", "transformers")

WRONG = {
    "viz/theme.py": "from ui import frame",
    "attention/spec.py": "from attention.memory import footprint",
    "attention/units.py": "import plotly",
    "viz/bars.py": "import streamlit",
    "ui/frame.py": "import plotly",
    "attention/memory/footprint.py": "import torch",
}
"""For each contract a line that breaks it, in the order of the contracts."""


def checked(root: Path) -> tuple[dict[str, str], str]:
    """What import-linter says of a checkout: KEPT or BROKEN for each contract, and its whole output."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=root, capture_output=True, text=True, check=False, timeout=240)
    said = done.stdout + done.stderr
    found = {c["name"]: m[1] for c in CONTRACTS if (m := re.search(re.escape(c["name"]) + r"\s+(KEPT|BROKEN)", said))}
    return found, said


def module_names(*parts: str) -> list[str]:
    """Every module of a part or of one of its rooms (packages)."""
    places = [ROOT / part.replace(".", "/") for part in parts]
    paths = [
        p for place in places for p in (sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")])
    ]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    return [name for name in names if not name.endswith("__main__")]


def loaded_by(statement: str, cwd: Path = ROOT) -> list[str]:
    """Which of the heavy packages a fresh process has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def copy_to(root: Path) -> None:
    """Copy the contracts and the parts that they name, for a test to break."""
    shutil.copy(ROOT / "pyproject.toml", root)
    for part in PARTS:
        shutil.copytree(ROOT / part, root / part, ignore=lambda _, names: [n for n in names if n == "__pycache__"])


def test_every_contract_is_kept() -> None:
    found, said = checked(ROOT)
    assert found == {c["name"]: "KEPT" for c in CONTRACTS}, said


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    copy_to(tmp_path)
    for place, line in WRONG.items():
        with (tmp_path / place).open("a") as file:
            file.write(f"\n{line}\n")
    found, said = checked(tmp_path)
    assert found == {c["name"]: "BROKEN" for c in CONTRACTS}, said


def test_a_module_without_a_room_is_found(tmp_path: Path) -> None:
    copy_to(tmp_path)
    (tmp_path / "attention" / "corridor.py").write_text("")
    assert "corridor" in checked(tmp_path)[1]


def test_what_only_computes_loads_no_torch() -> None:
    """One process imports all of them. Only if that fails is each one tried, to find which is to blame."""
    names = [name for name in module_names(*TORCH_FREE) if not name.startswith("pages")]
    assert len(names) > 100
    if loaded_by("\n".join(f"import {name}" for name in names)):
        guilty = [name for name in names if loaded_by(f"import {name}")]
        pytest.fail(f"these load torch or transformers: {guilty}")


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert loaded_by("import torch", cwd=tmp_path) == ["torch"]


def imported_first(tree: ast.Module) -> Iterator[str]:
    """What a module imports while it is itself imported: not inside functions, not for the type checker alone."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield str(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def circle_among(root: Path) -> list[str]:
    """Modules that import one another in a circle; [] if there is none."""
    names = dict(module_files(root))
    needs = {
        name: {other for other in imported_first(ast.parse(path.read_text())) if other in names and other != name}
        for name, path in names.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def module_files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in (p for part in PARTS for p in sorted((root / part).rglob("*.py"))):
        yield ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), path


def test_every_module_imports_alone() -> None:
    """Each module can be imported first, since there is no circle of imports."""
    assert circle_among(ROOT) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    for part in PARTS:
        (tmp_path / part).mkdir()
    (tmp_path / "attention" / "a.py").write_text("from attention.b import x\n")
    (tmp_path / "attention" / "b.py").write_text("if True:\n    import attention.a\n")
    assert {"attention.a", "attention.b"} <= set(circle_among(tmp_path))
    (tmp_path / "attention" / "b.py").write_text("def f():\n    import attention.a\n")
    assert circle_among(tmp_path) == []
