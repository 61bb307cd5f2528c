"""Timings of kinds of cache are written and read again; nothing in a file is trusted; what ships can be read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attention.kernels.kinds.case import CACHE_FORMATS, KINDS, KindCase, KindResult, kind_bytes, kind_flops
from attention.timing import kind_runs
from bench import gpu
from bench import kinds as bench
from tests.long import long

RESULTS = [
    KindResult(
        KindCase("latent", name, 128, 1, 576, 512, 4096, device="cuda"), median, 1e-6, 1e-3, 0.1, floor, "memory", 4e12,
        7e14, (float(f"{0.9 * median:.6g}"), median, float(f"{1.1 * median:.6g}"), median, median), 1,
    )
    for name, median, floor in (("triton", 2e-5, 1e-5), ("efficient", 6e-5, 1e-5))
]  # fmt: skip
RESULTS.append(
    KindResult(
        KindCase("expanded", "triton", 128, 128, 192, 128, 4096, device="cuda"), 4e-4, 1e-6, 1e-3, 0.1, 3e-4, "memory",
        4e12, 7e14, (3.6e-4, 4e-4, 4.4e-4, 4e-4, 4e-4), 1,
    )
)  # fmt: skip
RESULTS.append(KindResult(KindCase("full", "flash", device="cuda"), note="not run: takes float16 and bfloat16 only"))
STAMP: dict[str, Any] = {
    "host": {"cpu": "Made-up"},
    "calibration": {"name": "Made-up GPU"},
    "versions": {"torch": "2.11.0"},
    "created": "2026-11-27T01:41:59+00:00",
}


def document(**change: Any) -> str:
    return json.dumps({**json.loads(kind_runs.dumps(RESULTS, **STAMP)), **change})


def test_what_is_written_is_read_again() -> None:
    text = kind_runs.dumps(RESULTS, **STAMP)
    run = kind_runs.parse(text, "made-up")
    assert run.results == tuple(RESULTS)
    assert (run.device, run.label, run.id, run.created) == ("cuda", "Made-up GPU", "made-up", STAMP["created"])
    assert '"times_s": [1.8e-05, 2e-05,' in text
    # values at their default are not written, and every timing is one line
    assert len([line for line in text.splitlines() if '"kind"' in line]) == len(RESULTS)
    assert '"window"' not in text


def test_what_ships_can_be_read_and_holds_each_kind_with_no_time_below_its_floor() -> None:
    (run,) = kind_runs.recorded()
    assert (run.id, run.label, run.device) == ("nvidia-h200-kinds", "NVIDIA H200", "cuda")
    assert run.versions["triton"]
    ours = [result for result in run.results if result.case.implementation == "triton" and result.median_s]
    assert {result.case.kind for result in ours} == set(KINDS)
    assert {result.case.k_format for result in ours} == set(CACHE_FORMATS)
    for result in run.results:
        if not result.median_s:
            assert result.note.startswith("not run: ")
            continue
        assert result.floor_s is not None
        assert result.error is not None
        assert result.tolerance is not None
        assert result.read_bytes_per_s
        assert result.flops_per_s
        # read and computed no faster than the machine was seen to do
        least = max(kind_bytes(result.case) / result.read_bytes_per_s, kind_flops(result.case) / result.flops_per_s)
        assert result.floor_s == pytest.approx(least, rel=1e-3)
        assert result.median_s >= result.floor_s * 0.999
        assert result.error <= result.tolerance
        assert not result.unsteady


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"headshare_kinds": 2}, 'an object with "headshare_kinds": 1|a JSON object'),
        ({"more": 1}, "at odds is 'more'"),
        ({"results": []}, "results must be a list of 1 to 4,000 timings"),
        ({"results": [{"kind": "ring"}]}, "timing 1: kind must be one of"),
        ({"created": "today"}, "created must be a time"),
        ({"host": 7e40}, "host must be a smaller number"),
    ],
)
def test_what_is_no_run_is_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind_runs.parse(document(**change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"median_s": 3e-5}, "median_s must be 2e-05 with these figures"),
        ({"floor_s": 3e-5}, "floor_s must be at most median_s"),
        ({"error": -1}, "error must be a number of at least 0 or null, got -1"),
        ({"bound": "luck"}, "bound must be memory or arithmetic, got 'luck'"),
        ({"implementation": "A b"}, "implementation must be a name"),
        ({"device": "auto"}, "device must say where"),
        ({"times_s": "x"}, "times_s must be a list"),
        ({"q_len": 99}, "q_len must be between 1 and 64, got 99"),
    ],
)
def test_a_row_at_odds_is_told(change: dict[str, Any], says: str) -> None:
    rows = json.loads(document())["results"]
    with pytest.raises(ValueError, match=f"timing 1: {says}"):
        kind_runs.parse(document(results=[{**rows[0], **change}, *rows[1:]]))


def test_not_a_number_and_no_json_are_told() -> None:
    for text in ("{", "[" * 100_000, document().replace("2e-05", "NaN"), " " * (kind_runs.MAX_BYTES + 1)):
        with pytest.raises(ValueError, match=r"no JSON|finite|at most 4,000,000 bytes"):
            kind_runs.parse(text)


def test_the_table_sets_ours_against_floor_and_peers() -> None:
    cells = [cell.strip() for cell in bench.row(RESULTS[:2]).strip("|").split("|")]
    assert len(cells) == len(bench._HEAD)
    found = dict(zip(bench._HEAD, cells, strict=True))
    assert found["shape"] == "MLA, absorbed, 128/1 × 576/512, bfloat16, batch 1, 4k"
    assert (found["× floor"], found["efficient"], found["flash"], found["plain"]) == ("2.00", "3.00", "–", "–")
    ratio = bench.ratios(RESULTS)[-1]
    assert "MLA, expanded" in ratio
    assert "| 20.000 | 20.000–20.000 |" in ratio


def test_every_set_can_be_asked_for() -> None:
    """The cases that are timed on a GPU can be timed, and each kind is among the first."""
    sets = list(bench.sets("cuda"))
    assert {shape.kind for one in sets[:4] for shape in one.shapes} == set(bench.names.KINDS)
    assert {shape.batch for one in sets for shape in one.shapes} == {1, 8, 32}
    for one in [*sets, *bench.sets("cpu")]:
        assert len({shape.dtype for shape in one.shapes}) == 1, one.title


def test_a_broken_device_begins_again_after_the_set_that_broke_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [bench.BROKEN + 3, 0]
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=codes.pop(0))

    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert gpu.main(["--device", "cpu", "--stages", "kinds", "--out", str(tmp_path)]) == 1
    assert [command[-1] for command in commands] == ["1", "4"]
    assert "== kinds: 0 s FAILED" in capsys.readouterr().out


@long("a set is written when it is measured")
def test_sets_after_the_first_keep_what_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = [
        bench.Set(name, [KindCase("full", "", 2, 1, 8, 8, 31, dtype="float32")], ("plain",)) for name in ("a", "b", "c")
    ]
    monkeypatch.setattr(bench, "sets", lambda device: iter(small))
    end = time.monotonic() + 60
    assert bench.run("cpu", time.monotonic() - 1, 0.001, tmp_path) == 0
    assert not (tmp_path / "kinds.json").exists()
    assert bench.run("cpu", end, 0.001, tmp_path) == 0
    assert bench.run("cpu", end, 0.001, tmp_path, begin=3) == 0
    kept = kind_runs.parse((tmp_path / "kinds.json").read_bytes()).results
    assert [result.together for result in kept] == [1, 2, 3, 3]
    assert "| set | shape |" in (tmp_path / "kinds.md").read_text()
