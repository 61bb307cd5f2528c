"""``from attention import …``: complete, typed, and free of torch until a layer is asked for."""

from __future__ import annotations

import ast
import enum
import inspect
import json
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

import attention

ROOT = Path(__file__).resolve().parents[1]


def typed_modules() -> dict[str, str]:
    """The module of each name, as type checkers read it."""
    tree = ast.parse((ROOT / "attention/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {a.name: str(n.module) for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}


MODULES = typed_modules()


def in_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", attention.__all__)
def test_every_name_is_the_modules_own(name: str) -> None:
    module = import_module(MODULES[name])
    assert getattr(attention, name) is getattr(module, name)
    assert getattr(attention, name).__doc__
    assert name in dir(attention)


def test_type_checkers_see_the_same_names() -> None:
    assert set(MODULES) == set(attention.__all__)
    assert (ROOT / "attention/py.typed").exists()


def parameters(public: Any) -> list[str]:
    """The parameters of a function or class with their defaults; the members of an enumeration."""
    if isinstance(public, type) and issubclass(public, enum.Enum):
        return sorted(member.name for member in public)
    named = inspect.signature(public).parameters.values()
    return [p.name if p.default is p.empty else f"{p.name} = {p.default!r}" for p in named]


MADE_BY_US = ("CacheBytes",)
"""Classes of results, which only this package makes: of these the attributes hold."""


@pytest.mark.parametrize(
    ("name", "before"), json.loads((ROOT / "tests/data/public_api.json").read_text()).items(), ids=lambda x: str(x)[:20]
)
def test_what_was_public_before_the_rooms_is_so_still(name: str, before: list[str]) -> None:
    """The file holds names and parameters as they were when all modules stood in one folder."""
    public = getattr(attention, name)
    if name in MADE_BY_US:
        assert set(before) <= {*dir(public), *public.__dataclass_fields__}
        return
    now = parameters(public)
    assert now[: len(before)] == before or isinstance(public, enum.EnumType)
    assert set(before) <= set(now)
    if not isinstance(public, enum.EnumType):
        assert all("=" in added for added in now[len(before) :]), "what is new has a default"


def test_no_name_hides_a_module() -> None:
    modules = {path.stem for path in (ROOT / "attention").iterdir()}
    assert not modules & set(attention.__all__)


def test_computing_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from attention import accelerator, allocate, cache_bytes, resolve, with_n_kv_heads\n"
        "spec = resolve('meta-llama/Llama-3.1-8B')\n"
        "assert cache_bytes(with_n_kv_heads(spec, 1), 7).state_bytes * 8 == cache_bytes(spec, 7).state_bytes\n"
        "assert allocate(spec, 17, page_tokens=16).allocated_bytes == cache_bytes(spec, 32).state_bytes\n"
        "accelerator('H100 SXM 80 GB')\n"
        "print([m for m in ('torch', 'transformers', 'streamlit', 'plotly') if m in sys.modules])"
    )
    assert in_fresh_process(code) == "[]"


def test_layers_come_when_asked_for() -> None:
    code = (
        "import sys, attention\n"
        "before = 'torch' in sys.modules\n"
        "layer = attention.GroupedQueryAttention(hidden_size=6, n_heads=6, n_kv_heads=3, head_dim=2)\n"
        "print(before, tuple(layer.k_proj.weight.shape))"
    )
    assert in_fresh_process(code) == "False (6, 6)"


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match=r"No attention attribute nonsense"):
        attrgetter("nonsense")(attention)
    with pytest.raises(ImportError):
        exec("from attention import nonsense")


@pytest.mark.parametrize(
    ("statement", "slow"),
    [
        # a millisecond or more each, beside the 8 of typing
        ("import attention", ["typing", "re", "dataclasses"]),
        (
            "from attention import cli; cli.main(['kv', 'llama-3.1-8b'])",
            ["logging", "difflib", "fractions", "transformers", "attention.configs.reader"],
        ),
    ],
)
def test_nothing_slow_is_loaded_without_need(statement: str, slow: list[str]) -> None:
    code = f"import sys\n{statement}\nprint([name for name in {slow!r} if name in sys.modules])"
    assert in_fresh_process(code).splitlines()[-1] == "[]"
