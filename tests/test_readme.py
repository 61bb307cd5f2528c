"""The README's examples run, its tree is true, and what it links to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attention.cli import command_names, main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)


def test_library_examples_run() -> None:
    python = [code for language, code in BLOCKS if language == "python"]
    assert python
    for code in python:
        exec(compile(code, "README.md", "exec"), {})


def test_commands_exist() -> None:
    named = set(re.findall(r"-m attention (?!COMMAND)([\w-]+)", README))
    assert {"kv", "verify", "bench", "convert"} <= named <= set(command_names())


@pytest.mark.parametrize("command", re.findall(r"^python -m attention ((?:kv|fit) .*?)(?:#.*)?$", README, re.M))
def test_computing_commands_answer(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    words = [w for w in shlex.split(command) if w != "path/to/config.json"]
    assert main(words) == 0
    assert capsys.readouterr().out.strip()


def test_the_tree_is_true() -> None:
    tree = next(code for language, code in BLOCKS if "app.py  " in code)
    folder = Path()
    for line in tree.splitlines():
        indented = line.startswith("  ") and not line.startswith("   ")
        if line.startswith("   ") or not line.strip():
            continue
        names = re.split(r"\s{2,}", line.strip())[0]
        for name in re.split(r",\s*", names):
            if re.fullmatch(r"[\w.*/-]+(\.py|/)", name.strip()):
                place = folder / name.strip() if indented else Path(name.strip())
                assert list(ROOT.glob(str(place).rstrip("/"))), f"README names {place}, which is not there"
                if not indented and name.endswith("/"):
                    folder = place


def test_links_point_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), f"README links to {target}, which is not there"
