"""Formats of the cache compared on a text: what is reported, and that coarser formats have larger errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attention.jobs import cache_formats as job
from attention.llm import cache_formats as formats
from attention.llm import format_costs
from tests.llm.test_caches import small
from tests.torch_threads import torch_threads


def _told(folder: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[dict[str, Any]]:
    monkeypatch.setattr(formats, "TIMED_CONTEXT", 37)
    monkeypatch.setattr(formats, "ROUNDS", 1)
    told: list[dict[str, Any]] = []
    model = small(folder)
    pieces = [list(range(3, 3 + 29)), list(range(41, 41 + 31))]
    tried = formats.pairs(("q8_0", "q4_0"))
    timed = [pair for pair in tried if pair[0] == pair[1]]

    def emit(item: dict[str, Any]) -> None:
        if "progress" not in item:
            told.append(item)

    with torch_threads(1):
        formats.run(model, pieces, tried, timed, emit, lambda: stop_after is not None and len(told) > stop_after)
    return told


def test_every_pair_has_its_row_and_coarser_formats_err_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = format_costs.of_results(_told(tmp_path, monkeypatch))
    by_pair = {(row.k, row.v): row for row in costs.rows}
    assert set(by_pair) == {*formats.pairs(), ("q8_0", "q4_0")}
    assert costs.tokens == 60
    error = {name: by_pair[name, name].logit_error for name in formats.SHOWN}
    assert error["bf16"] < error["q8_0"] < error["fp8"]
    assert error["q8_0"] < error["int4-g32"] < error["q4_0"]
    for name in ("q4_0", "int4-g32"):
        assert max(by_pair[name, "bf16"].logit_error, by_pair["bf16", name].logit_error) < 1.2 * error[name]
    # 2 K/V heads of 32 in 5 layers, keys and values: two bytes each, or 18 for 32
    assert by_pair["bf16", "bf16"].bytes_per_token == 2 * 5 * 2 * 64
    assert by_pair["q4_0", "q4_0"].bytes_per_token == 2 * 5 * 2 * 18
    both = [row for row in costs.rows if row.k == row.v]
    assert all(row.step_s and row.floor_s for row in both)
    assert all(row.step_s is None for row in costs.rows if row.k != row.v)
    assert costs.timed_context == 37
    assert "keys alone" in format_costs.finding(costs)


def test_a_run_that_is_stopped_has_told_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _told(tmp_path, monkeypatch, stop_after=2)
    assert [item["kind"] for item in told] == ["reference", "row", "row"]
    costs = format_costs.of_results(told)
    assert len(costs.rows) == 2
    assert format_costs.finding(costs) == ""


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "prompt must be a text"),
        ({"text": "a\x00"}, r"U\+0000"),
        ({"text": "a", "k_dtype": "int3"}, "k_dtype must be one of"),
        ({"text": "a", "v_dtype": 4}, "v_dtype must be one of"),
    ],
)
def test_a_payload_is_checked(payload: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        job.run(payload, lambda item: None, lambda: False)
    with pytest.raises(ValueError, match=told):
        job.estimate_bytes(payload)
