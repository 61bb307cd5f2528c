"""SGLang's own answers: those recorded equal what is computed today, and models that cannot be asked are refused."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from attention import cli
from attention.catalog import published
from attention.catalog.sources import resolve
from attention.engines import ask_sglang, asked, asked_sglang, sglang_planner
from attention.engines.rules import conv_kernel
from attention.engines.sglang import Settings
from tests.long import short

LLAMA = "meta-llama/Llama-3.1-8B"


def test_every_recorded_answer_is_what_is_computed_today() -> None:
    results = asked.load(asked_sglang.FILE)
    answers = [row for row in results.rows if row.reason is None]
    assert len({row.model for row in answers}) > 150
    assert {(row.model, row.kind) for row in answers if not row.equal} == set(asked_sglang.EXPLAINED)
    known = {row.id: row for row in published.models()}
    # a model for each kind of answer; all of them in the long form
    kinds = {(row.kind, (row.printed or "").count(","), known[row.model].family): row for row in answers}
    for row in short(answers, list(kinds.values())):
        model = known[row.model]
        assert model.spec is not None
        assert asked_sglang.computed_now(row, model.spec, conv_kernel(model.config)) == row.computed, row
    assert all(row.reason for row in results.rows if row.printed is None)
    counts = Counter(row.model for row in results.rows)
    with_config = {row.id for row in published.models() if row.spec is not None and row.config is not None}
    assert set(counts) == with_config
    assert set(counts.values()) == {len(asked_sglang.ASKED)}


def test_the_record_is_the_engines_word() -> None:
    rows = {(row.model, row.kind): row.printed for row in asked.load(asked_sglang.FILE).rows}
    # 250 GB over 128 KiB a token; 250 GB over 18 full and 0.8 × 18 windowed layers of 2 KiB
    assert rows[LLAMA, "bf16"] == "1907348 tokens"
    assert rows["openai/gpt-oss-120b", "bf16"] == "3767602 tokens, 3014081 tokens of windowed layers"
    # 769 slots of states fit in 9 / 19 of the memory, and one of them is the slot that holds nothing
    assert rows["Qwen/Qwen3.5-27B", "bf16"] == "2008316 tokens, 768 states"


def test_answers_in_one_line() -> None:
    some = {"tokens": 7, "window_tokens": 0, "states": 3}
    assert ask_sglang.said(some) == "7 tokens, 3 states"
    assert ask_sglang.said({"tokens": 0, "window_tokens": 0, "states": 0}) == "nothing"
    assert ask_sglang.said({"refused": "ValueError: other"}) == "ValueError: other"
    assert ask_sglang.computed(resolve("openai/gpt-oss-20b"), Settings(page_tokens=64), 2**20) == "nothing"
    assert not ask_sglang.Answer("a", "a", "no class").equal


def test_what_is_sent() -> None:
    config = {"model_type": "llama"}
    question = ask_sglang.Question(resolve(LLAMA), config, Settings("fp8", 64, 2, 500, 300), 11)
    ratios = {"window_ratio": 500, "state_ratio": 300}
    assert ask_sglang.request(question) == {
        "config": config, "tp": 2, "kv_dtype": "fp8", "page": 64, "memory": 11, **ratios
    }  # fmt: skip


def test_the_planner_is_run_beside_sglang_alone() -> None:
    # it is run as a file by an interpreter that may know nothing of this project
    tree = ast.parse(Path(sglang_planner.__file__).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {module.split(".")[0] for module in modules} <= set(sys.stdlib_module_names)


def test_what_stands_for_a_missing_package() -> None:
    stubs = sglang_planner.Stubs()
    assert stubs.find_spec("torch.nn") is None
    spec = stubs.find_spec("torchvision.transforms")
    assert spec is not None
    module: Any = stubs.create_module(spec)
    assert module.__version__ == "0"
    assert module.Resize.deep is sglang_planner.Absent
    assert module.decorator(len) is len
    assert not hasattr(module, "__all__")


def test_without_the_wheel_it_says_what_to_install(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["verify", LLAMA, "--engine", "sglang"]) == 2
    assert "requirements-sglang.txt" in capsys.readouterr().err


def test_a_model_asked_from_the_command_line(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ask_sglang, "asked_version", lambda: "0.5.23")
    words = ["verify", LLAMA, "--engine", "sglang", "--memory", "40GiB"]
    for tokens, code in ((327680, 0), (7, 1)):
        answers = [{"tokens": tokens, "window_tokens": 0, "states": 0}]
        monkeypatch.setattr(ask_sglang, "planner_answers", lambda _, answers=answers: answers)
        assert cli.main(words) == code
        assert ("not equal" in capsys.readouterr().out) is bool(code)
    monkeypatch.setattr(ask_sglang, "planner_answers", lambda _: [{"refused": "SGLang has no class"}])
    assert cli.main(words) == 2
    assert "no class" in capsys.readouterr().err


def test_an_engine_that_does_not_answer_is_said(monkeypatch: Any) -> None:
    monkeypatch.setattr(ask_sglang, "asked_version", lambda: "0.5.23")
    monkeypatch.setattr(ask_sglang, "PLANNER", Path(__file__).with_name("absent.py"))
    with pytest.raises(ValueError, match="did not answer"):
        ask_sglang.ask([ask_sglang.Question(resolve(LLAMA), {}, Settings(), 10**11)])


@pytest.mark.parametrize("name", short([LLAMA, "Qwen/Qwen3-Next-80B-A3B-Instruct", "openai/gpt-oss-20b"], []))
def test_asking_now_gives_what_is_recorded(name: str) -> None:
    pytest.importorskip("sglang")
    model = published.model(name)
    assert model.spec is not None
    assert model.config is not None
    settings = asked_sglang.settings_of(model.spec, conv_kernel(model.config), "bf16")
    [answer] = ask_sglang.ask([ask_sglang.Question(model.spec, model.config, settings, asked_sglang.MEMORY_BYTES)])
    rows = {(row.model, row.kind): row.printed for row in asked.load(asked_sglang.FILE).rows}
    assert answer.asked == rows[name, "bf16"]
