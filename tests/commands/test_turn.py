"""Timings on the command line wait for the device like those of a page: two at once would measure each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention.timing.device_queue import turn
from tests.server import ROOT

SIZES = ("--n-heads", "2", "--head-dim", "13", "--context", "17", "--device", "cpu")
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (["bench", "--n-kv-heads", "1", "--implementations", "folded_matmul", "--seconds", "0.05", "--json"], {}),
        (["bench-tp", "--n-kv-heads", "2", "--json"], ALONE),
    ],
    ids=["bench", "bench-tp"],
)
def test_a_command_waits_for_the_device_and_says_so(command: list[str], more: dict[str, str], tmp_path: Path) -> None:
    with turn("cpu", str(tmp_path), waiting=lambda position: None):
        process = subprocess.Popen(
            [sys.executable, "-m", "attention", command[0], *SIZES, *command[1:]],
            cwd=ROOT,
            env={**os.environ, **more, "HEADSHARE_LOCK_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said == "waiting: 1 run comes first on this machine\n"
            assert process.poll() is None
        except BaseException:
            process.kill()
            process.communicate()
            raise
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [json.loads(line)["n_kv_heads"] for line in out.splitlines() if line.startswith("{")]
