"""vLLM's own answers: those recorded equal what is computed today, and models that cannot be asked are refused."""

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
from attention.engines import ask_vllm, asked, asked_vllm, vllm_planner
from attention.engines.rules import conv_kernel
from attention.engines.vllm_layers import Settings
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role, attention_layer
from tests.long import short

ANSWER = {"blocks": 7, "block_bytes": 11, "groups": [[3, 16], [2, 0]], "tokens": 13, "concurrency": "1.50"}


def test_every_recorded_answer_is_what_is_computed_today() -> None:
    results = asked.load(asked_vllm.FILE)
    answers = [row for row in results.rows if row.reason is None]
    models = {row.model for row in answers}
    assert len(models) > 190
    assert len([row for row in answers if row.equal]) >= 0.95 * len(answers)
    known = {row.id: row for row in published.models()}
    # one model of every kind of plan; all of them in the long form
    kinds = {(row.kind, row.context, (row.printed or "").count("×")): row for row in answers}
    for row in short(answers, list(kinds.values())):
        model = known[row.model]
        assert model.spec is not None
        assert asked_vllm.computed_now(row, model.spec, conv_kernel(model.config)) == row.computed, row
    assert all(row.reason for row in results.rows if row.printed is None)
    asked_of = Counter(row.model for row in results.rows)
    assert set(asked_of) == {row.id for row in published.models() if row.spec is not None}


def test_the_record_is_the_planners_word() -> None:
    # ENGINES.md and vllm #57431 print this planner's figures for other amounts of memory; compared here are its groups
    rows = {(row.model, row.context, row.kind): row for row in asked.load(asked_vllm.FILE).rows}
    gemma = rows["google/gemma-3-27b-pt", 65536, "auto"]
    assert "groups 8×16 8×16 9×16 9×16 9×16 9×16 10×16" in (gemma.printed or "")
    assert "12×state 12×state 12×state 12×544" in (rows["Qwen/Qwen3-Next-80B-A3B-Instruct", 8000, "auto"].printed or "")


def test_answers_in_one_line() -> None:
    assert ask_vllm.said(ANSWER) == "7 blocks of 11 bytes; groups 2×state 3×16; 13 tokens, 1.50x"
    assert ask_vllm.said({"refused": "ValueError: larger than the available"}) == "refused: too little memory"
    assert ask_vllm.said({"refused": "AssertionError: other"}) == "AssertionError: other"
    spec = resolve("meta-llama/Llama-3.1-8B")
    assert ask_vllm.computed(spec, Settings(131072), 2**30) == "refused: too little memory"
    assert "327680 tokens, 2.50x" in ask_vllm.computed(spec, Settings(131072), 40 * 2**30)


def test_what_is_sent_for_each_kind_of_layer() -> None:
    states = (FixedState(Role.CONVOLUTION, 4 * 70), FixedState(Role.RECURRENT, 66, "fp32", 3))
    latent = (PositionState(Role.LATENT, 1, 96, 32), PositionState(Role.INDEXER, 1, 128, 0))
    layers = (
        attention_layer(6, 3, 32),
        attention_layer(6, 3, 32, 128, v_head_dim=48),
        attention_layer(6, 3, 32, 128, chunked=True),
        Layer(Kind.RECURRENT, states),
        Layer(Kind.LATENT, latent, 6, 32, 32),
    )
    sent = ask_vllm.request(ModelSpec("all", layers, "bf16"), Settings(5000, conv_kernel=4, tp=3), 10**9)
    assert [one["kind"] for one in sent["layers"]] == ["full", "window", "chunk", "state", "latent", "indexer"]
    assert sent["layers"][1] == {"kind": "window", "heads": 1, "k": 32, "v": 48, "window": 128}
    assert sent["layers"][3] == {"kind": "state", "shapes": [[210], [22]], "dtypes": ["bfloat16", "bfloat16"]}
    assert [one["size"] for one in sent["layers"][4:]] == [128, 132]
    assert (sent["block"], sent["dtype"], sent["mamba_cache_mode"]) == (64, "bfloat16", "none")


def test_the_planner_is_run_beside_vllm_alone() -> None:
    # it is run as a file by an interpreter that may know nothing of this project
    tree = ast.parse(Path(vllm_planner.__file__).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    tops = {module.split(".")[0] for module in modules}
    assert tops <= set(sys.stdlib_module_names)


def test_without_the_wheel_it_says_what_to_install(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["verify", "meta-llama/Llama-3.1-8B", "--engine", "vllm"]) == 2
    assert "requirements-vllm.txt" in capsys.readouterr().err


def test_a_model_asked_from_the_command_line(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    spec = resolve("meta-llama/Llama-3.1-8B")
    equal = ask_vllm.computed(spec, Settings(131072), 40 * 2**30)
    for said, code in ((equal, 0), ("7 blocks", 1)):
        monkeypatch.setattr(ask_vllm, "ask", lambda asked, said=said: [ask_vllm.Answer(said, equal)])
        monkeypatch.setattr(ask_vllm, "asked_version", lambda: "0.33.0")
        words = ["verify", spec.name, "--engine", "vllm", "--memory", "40GiB", "--context", "131072"]
        assert cli.main(words) == code
        assert ("not equal" in capsys.readouterr().out) is bool(code)


def test_a_planner_that_does_not_answer_is_said(monkeypatch: Any) -> None:
    monkeypatch.setattr(ask_vllm, "asked_version", lambda: "0.33.0")
    monkeypatch.setattr(ask_vllm, "PLANNER", Path(__file__).with_name("absent.py"))
    with pytest.raises(ValueError, match="did not answer"):
        ask_vllm.ask([(resolve("meta-llama/Llama-3.1-8B"), Settings(8000), 10**11)])


@pytest.mark.parametrize("name", short(["meta-llama/Llama-3.1-8B", "Qwen/Qwen3-Next-80B-A3B-Instruct"], []))
def test_asking_now_gives_what_is_recorded(name: str) -> None:
    pytest.importorskip("vllm")
    model = published.model(name)
    assert model.spec is not None
    settings = asked_vllm.settings_of(model.spec, conv_kernel(model.config), 8000, "auto")
    [answer] = ask_vllm.ask([(model.spec, settings, asked_vllm.MEMORY_BYTES)])
    row = next(
        row for row in asked.load(asked_vllm.FILE).rows if (row.model, row.context, row.kind) == (name, 8000, "auto")
    )
    assert answer.asked == row.printed
