"""Heads divided among processes: the division worked by hand, and run for real with two and four ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention import cli
from attention.timing.tensor_parallel import shard
from tests.long import long

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "ranks"), [(32, 32, 4), (32, 8, 4), (32, 8, 8), (32, 8, 16), (32, 1, 4), (30, 6, 3)]
)
def test_every_query_head_is_once_somewhere_with_the_head_it_reads(n_heads: int, n_kv_heads: int, ranks: int) -> None:
    group_size = n_heads // n_kv_heads
    seen: list[int] = []
    for rank in range(ranks):
        own = shard(n_heads, n_kv_heads, rank, ranks)
        heads = range(n_heads)[own.heads]
        kv_heads = range(n_kv_heads)[own.kv_heads]
        assert {head // group_size for head in heads} == set(kv_heads)
        # query heads must stay in equal runs per K/V head
        assert [head // group_size for head in heads] == [
            kv for kv in kv_heads for _ in range(len(heads) // len(kv_heads))
        ]
        seen += heads
    assert seen == list(range(n_heads))


@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "ranks", "message"),
    [
        (6, 4, 2, "n_kv_heads must divide n_heads = 6, got 4"),
        (32, 8, 5, "the number of ranks must divide n_heads = 32, got 5"),
        (30, 6, 10, "the number of ranks must divide n_kv_heads = 6 or be its multiple, got 10"),
    ],
)
def test_what_cannot_be_shared_out(n_heads: int, n_kv_heads: int, ranks: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shard(n_heads, n_kv_heads, 0, ranks)


def torchrun(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.run(
        [*command, "-m", "attention", "bench-tp", "--device", "cpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@long("one rank, in tests/commands/test_turn.py")
@pytest.mark.parametrize("ranks", [2])
def test_ranks_together_compute_what_one_process_does(ranks: int) -> None:
    arguments = "--n-heads 12 --n-kv-heads 12,4,2,1 --head-dim 14 --context 211 --batch 3 --json"
    done = torchrun(ranks, *arguments.split())
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["n_kv_heads"] for r in results] == [12, 4, 2, 1]
    for r in results:
        held = max(1, r["n_kv_heads"] // ranks)
        assert r["ranks"] == ranks
        assert r["kv_heads_per_rank"] == held
        assert r["copies"] == max(1, ranks // r["n_kv_heads"])
        assert r["cache_bytes"] == 2 * 3 * r["n_kv_heads"] * 211 * 14 * 4
        assert r["cache_bytes_per_rank"] == 2 * 3 * held * 211 * 14 * 4
        assert 0 < r["error"] < r["tolerance"] < 1e-3
        assert r["step_s"] > 0
        assert r["all_reduce_s"] > 0
        assert r["single_s"] > 0


def test_without_torchrun_it_says_how(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert cli.main(["bench-tp", "--device", "cpu"]) == 2
    assert "start this with torchrun" in capsys.readouterr().err
