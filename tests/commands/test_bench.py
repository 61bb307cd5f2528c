"""``python -m attention bench``: what it prints, and one clear line where it refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from attention import cli
from tests.made_up_host import made_up_host


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with made_up_host(monkeypatch):
        yield


FIELDS = (
    "implementation n_heads n_kv_heads head_dim context batch dtype device median_s iqr_s cache_bytes bytes_per_s error"
)


def test_the_command_prints_one_object_per_case(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "bench --n-heads 4 --n-kv-heads 4,1 --head-dim 8 --context 33,65 --dtype float32,bfloat16 --seconds 0.01"
    )
    code = cli.main([*arguments.split(), "--implementations", "folded_matmul,enable_gqa", "--device", "cpu", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert len(lines) == 2 * 2 * 2 * 2
    assert all(field in line for line in lines for field in FIELDS.split())
    assert {(r["n_kv_heads"], r["context"], r["dtype"]) for r in lines} == set(
        itertools.product((4, 1), (33, 65), ("float32", "bfloat16"))
    )


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "bench --n-heads 4 --n-kv-heads 2 --head-dim 8 --context 33 --seconds 0.01 --device cpu"
    assert cli.main([*arguments.split(), "--implementations", "folded_matmul"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["implementation", "heads", "kv_heads"]
    assert row.split()[:6] == ["folded_matmul", "4", "2", "8", "33", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--n-kv-heads 5", "n_kv_heads must divide n_heads"),
        ("--context 0", "context must be between 1"),
        ("--context 1000000000000", "context must be between 1"),
        ("--implementations warp", "implementation must be one of"),
        ("--dtype float8", "dtype must be one of"),
        ("--seconds 0", "seconds must be above 0"),
        ("--batch 4096 --context 1000000", "may be used here"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--device", "cpu", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


def test_words_that_are_no_numbers_end_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "--context", "many"])
    assert ended.value.code == 2
    assert "whole numbers separated by commas, got 'many'" in capsys.readouterr().err
