"""Imports go one way, pages → ui → viz → attention, and the computing modules open without torch.

What a module imports is read from its source, so an import inside a function counts too. What it loads is seen in a
fresh process.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FORBIDDEN = {
    "attention": ("viz", "ui", "pages", "app", "streamlit", "plotly"),
    "viz": ("ui", "pages", "app", "streamlit", "torch", "transformers"),
    "ui": ("pages", "app", "torch", "transformers", "plotly"),
    "pages": ("app", "torch", "transformers", "plotly"),
}
"""For each part of the house, what none of its modules may import."""

TORCH_FREE = (
    "spec",
    "formats",
    "units",
    "memory",
    "breakdown",
    "cache_curves",
    "catalog",
    "allocation",
    "fit",
    "roofline",
    "cli",
    "worker",
    "store",
    "runs",
    "cases",
    "sharing",
    "projections",
    "layer_groups",
    "config_json",
    "host",
    "settings",
    "sources",
    "tables",
    "comparison",
    "lineage",
    "serving",
    "accuracy_view",
)
"""Modules of ``attention`` whose import must not load torch or transformers."""

HEAVY = ("torch", "transformers")


def modules_of(part: str, root: Path = ROOT) -> list[Path]:
    return sorted(p for p in (root / part).rglob("*.py") if "__pycache__" not in p.parts)


def imported(source: str) -> set[str]:
    """First names of everything a source imports, inside functions as well."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def wrong_imports(part: str, root: Path = ROOT) -> list[str]:
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in modules_of(part, root)
        for name in sorted(imported(path.read_text(encoding="utf-8")) & set(FORBIDDEN[part]))
    ]


def loaded_by(statement: str, watched: tuple[str, ...] = HEAVY, cwd: Path = ROOT) -> list[str]:
    """Which of the watched packages a fresh process has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*[m for m in {watched!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_go_one_way(part: str) -> None:
    assert modules_of(part), part
    assert wrong_imports(part) == []


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "viz").mkdir()
    (tmp_path / "viz" / "good.py").write_text("import plotly\nfrom attention import spec\n")
    (tmp_path / "viz" / "bad.py").write_text(
        "def draw():\n    import streamlit.elements as st\n    from ui import frame\n"
    )
    assert wrong_imports("viz", tmp_path) == ["viz/bad.py imports streamlit", "viz/bad.py imports ui"]


def test_computing_modules_are_torch_free() -> None:
    """One process for all of them; which one is to blame is looked for only when it fails."""
    names = [f"attention.{name}" for name in TORCH_FREE]
    if loaded_by("\n".join(f"import {name}" for name in names)):
        guilty = [name for name in names if loaded_by(f"import {name}")]
        pytest.fail(f"these load torch or transformers: {guilty}")


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert loaded_by("import torch", cwd=tmp_path) == ["torch"]


def test_the_interface_is_torch_free() -> None:
    statement = "\n".join(
        f"import {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')}"
        for part in ("viz", "ui")
        for path in modules_of(part)
    )
    assert loaded_by(statement) == []


def test_every_module_imports_alone() -> None:
    """Each module in turn with the project's other modules forgotten: no module needs another imported first."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for part in ("attention", "viz", "ui")
        for path in modules_of(part)
        if path.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] in ('attention', 'viz', 'ui')]:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
