"""The checked-in results are what the code gives now, and state what they claim."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from attention.catalog import published
from attention.commands import accuracy as command
from attention.memory.footprint import sequence_bytes
from attention.oracle import accuracy
from attention.oracle.wrong_rules import RULES, rule_bytes
from attention.spec import ModelSpec, attention_layer, latent_layer, uniform_spec

RESULTS = accuracy.load()
BY_KEY = {(c.source, c.model): c for c in RESULTS.checks}


def test_every_subject_has_its_result() -> None:
    assert set(BY_KEY) == {(s.source, s.model) for s in accuracy.subjects()}
    assert len(BY_KEY) == len(RESULTS.checks)
    assert sum(c.source == "catalogue" for c in RESULTS.checks) >= 60


def test_nothing_is_unexplained() -> None:
    for check in RESULTS.checks:
        if check.reason is None:
            assert check.unexplained_bytes == 0, check.model
            assert check.allocated_bytes is not None
            assert check.difference_bytes == check.allocated_bytes - check.computed_bytes
            assert bool(check.explanations) == bool(check.difference_bytes), check.model
        else:
            assert check.allocated_bytes is None
            assert "transformers" in check.reason or "no code of its own" in check.reason


def test_most_models_were_asked_and_most_are_equal() -> None:
    asked = [c for c in RESULTS.checks if c.reason is None]
    assert len(asked) > 0.8 * len(RESULTS.checks)
    assert sum(c.difference_bytes == 0 for c in asked) > 0.7 * len(asked)


def test_computed_sizes_are_current() -> None:
    """The arithmetic side of every catalogue row, recomputed."""
    for row in published.models():
        if row.config is not None and row.spec is not None:
            check = BY_KEY["catalogue", row.id]
            assert sequence_bytes(row.spec, check.context, check.kv_dtype) == check.computed_bytes, row.id


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.2-1B", "openai/gpt-oss-20b", "openai-community/gpt2"])
def test_a_sample_is_reproduced(model: str) -> None:
    """Both sides of three rows, asked again."""
    row = published.model(model)
    assert row.config is not None
    subject = accuracy.Subject(row.id, row.family, "catalogue", row.config, row.spec)
    assert accuracy.check(subject) == BY_KEY["catalogue", row.id]


def test_rules_and_published_figures_are_current() -> None:
    assert list(RESULTS.rules) == accuracy.rule_errors()
    assert list(RESULTS.golden) == accuracy.golden()
    assert RESULTS.about["rules"] == RULES
    assert {error.rule for error in RESULTS.rules} == set(RULES)


def test_published_figures_agree() -> None:
    assert len(RESULTS.golden) >= 6
    for figure in RESULTS.golden:
        assert figure.agrees, figure


def test_published_figures_say_where() -> None:
    """Each can be looked up, and none is our own arithmetic."""
    for figure in RESULTS.golden:
        assert re.search(r"https://\S+/\d+|arXiv:\d{4}\.\d{5}", figure.source), figure


def test_wrong_rules_by_hand() -> None:
    """Sizes worked out on paper."""
    layers = (attention_layer(14, 7, 22), attention_layer(14, 7, 22, window=13))
    spec = ModelSpec("m", layers, "bf16", hidden_size=14 * 11)
    row = 2 * 7 * 22 * 2
    assert sequence_bytes(spec, 101, "bf16") == row * (101 + 13)
    assert rule_bytes("hidden_size", spec, 101) == 2 * 2 * 14 * 11 * 2 * 101
    assert rule_bytes("head_dim", spec, 101) == row // 2 * (101 + 13)
    assert rule_bytes("no_windows", spec, 101) == row * 202
    assert rule_bytes("full_layers_only", spec, 101) == row * 101
    assert rule_bytes("latent_as_heads", spec, 101) is None
    mla = ModelSpec("mla", (latent_layer(6, 34, 10, 22, 26),) * 3, "bf16", hidden_size=6 * 19)
    assert rule_bytes("latent_as_heads", mla, 101) == 3 * 2 * 6 * 19 * 2 * 101
    assert rule_bytes("latent_without_rope", mla, 101) == 3 * 34 * 2 * 101


def test_a_rule_that_is_right_for_a_model_says_nothing() -> None:
    spec = uniform_spec(3, 14, 7, 22)
    for rule in RULES:
        assert rule_bytes(rule, spec, 101) is None, rule


def test_results_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    accuracy.write(RESULTS.checks, path)
    again = accuracy.load(path)
    assert again.checks == RESULTS.checks
    assert again.rules == RESULTS.rules
    assert json.loads(path.read_text())["about"]["transformers"]


def test_the_command_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args([])) == 0
    said = capsys.readouterr().out
    assert "0 unexplained" in said
    assert "published figures agree" in said
