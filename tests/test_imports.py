"""The contracts of pyproject.toml hold and can fail, and what they call free of torch loads none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
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
"""A line that breaks each contract, in their order."""


def checked(root: Path) -> tuple[dict[str, str], str]:
    """What import-linter says of a checkout: KEPT or BROKEN by contract, and all its words."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=root, capture_output=True, text=True, check=False, timeout=240)
    said = done.stdout + done.stderr
    found = {c["name"]: m[1] for c in CONTRACTS if (m := re.search(re.escape(c["name"]) + r"\s+(KEPT|BROKEN)", said))}
    return found, said


def module_names(*parts: str) -> list[str]:
    """Every module of a part or of a room."""
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


def test_every_contract_is_kept() -> None:
    found, said = checked(ROOT)
    assert found == {c["name"]: "KEPT" for c in CONTRACTS}, said


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=lambda _, names: [n for n in names if n == "__pycache__"])
    for place, line in WRONG.items():
        with (tmp_path / place).open("a") as file:
            file.write(f"\n{line}\n")
    found, said = checked(tmp_path)
    assert found == {c["name"]: "BROKEN" for c in CONTRACTS}, said


def test_a_module_without_a_room_is_found(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=lambda _, names: [n for n in names if n == "__pycache__"])
    (tmp_path / "attention" / "corridor.py").write_text("")
    assert "corridor" in checked(tmp_path)[1]


def test_what_only_computes_loads_no_torch() -> None:
    """One process for all of them; which one is to blame is looked for only when it fails."""
    names = [name for name in module_names(*TORCH_FREE) if not name.startswith("pages")]
    assert len(names) > 100
    if loaded_by("\n".join(f"import {name}" for name in names)):
        guilty = [name for name in names if loaded_by(f"import {name}")]
        pytest.fail(f"these load torch or transformers: {guilty}")


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert loaded_by("import torch", cwd=tmp_path) == ["torch"]


def test_every_module_imports_alone() -> None:
    """Each module in turn with the project's other modules forgotten: no module needs another imported first."""
    code = (
        "import importlib, sys\n"
        f"for name in {module_names('attention', 'viz', 'ui')!r}:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] in ('attention', 'viz', 'ui')]:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
