"""The conversion interrupted: a full disk, a kill, a source that changes; and what its command reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attention.cli import main
from attention.convert.run import convert
from tests import convert_source
from tests.convert_source import FILES, HEAD_DIM, HIDDEN, refused, snapshot

source = pytest.fixture(convert_source.source)


def test_no_room(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 5_000}))
    refused(source, "has 5,000 bytes free, the result needs")


def test_write_error_half_way(source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The disk fills up in the second shard."""
    from attention.convert import checkpoint

    real, calls = checkpoint.copy_bytes, []

    def full(*arguments: int) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(checkpoint, "copy_bytes", full)
    before = snapshot(source.parent)
    assert main(["convert", str(source), str(source.parent / "target"), "--n-kv-heads", "2"]) == 2
    assert len(calls) == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert "was not made" in message
    assert snapshot(source.parent) == before


def in_child(source: Path, prelude: str) -> subprocess.Popen[str]:
    """Start the command in its own process, which first runs `prelude`."""
    # a process that was started in the background may have inherited that it ignores Ctrl-C
    prelude = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{prelude}"
    code = f"{prelude}\nfrom attention.cli import main\nraise SystemExit(main({command(source)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def command(source: Path) -> list[str]:
    return ["convert", str(source), str(source.parent / "target"), "--n-kv-heads", "2"]


def test_file_size_limit_of_the_system(source: Path) -> None:
    """A real refusal by the kernel: no file may grow past 4 KiB, as on a full disk or under a quota."""
    before = snapshot(source.parent)
    # a module's bytecode cut at the limit would break every later process
    prelude = "import resource, sys; sys.dont_write_bytecode = True"
    child = in_child(source, f"{prelude}; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    _, message = child.communicate(timeout=120)
    assert child.returncode == 2, message
    assert "File too large" in message
    assert snapshot(source.parent) == before


HANG = """
import time
from attention.convert import run as convert
real = convert.write_shard
def slow(path, *rest):
    real(path, *rest)
    print("shard written", flush=True)
    time.sleep(600)
convert.write_shard = slow
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle(source: Path, number: signal.Signals) -> None:
    before = snapshot(source)
    child = in_child(source, HANG)
    assert child.stdout is not None
    assert child.stderr is not None
    assert "shard written" in child.stdout.readline(), child.stderr.read()
    with pytest.raises(ValueError, match=r"another conversion to .* is running"):
        convert(source, source.parent / "target", 2)
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode != 0
    assert not (source.parent / "target").exists()
    left = [p for p in source.parent.iterdir() if p != source]
    if number == signal.SIGKILL:
        # only a hidden folder without a config.json: no library takes that for a model
        assert all(p.name.startswith(".target.converting") for p in left)
        assert not (source.parent / ".target.converting" / "config.json").exists()
    else:
        assert left == []
    # what is left does not stand in the way of the next run, which starts clean
    convert(source, source.parent / "target", 2)
    assert snapshot(source) == before
    assert sorted(p.name for p in source.parent.iterdir()) == ["source", "target"]
    assert (source.parent / "target" / FILES[1]).exists()


def test_source_cut_while_it_is_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attention.convert import run as module

    real = module.write_shard

    def cut(path: Path, *rest: Any) -> None:
        if path.name == FILES[1]:
            os.truncate(source / FILES[1], 700)
        real(path, *rest)

    monkeypatch.setattr(module, "write_shard", cut)
    with pytest.raises(ValueError, match="shorter while it was read"):
        convert(source, source.parent / "target", 2)


def test_command_reports(source: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*command(source), "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # K and V lose 4 of 6 heads in both layers
    assert report["parameters_before"] - report["parameters_after"] == 2 * 2 * 4 * HEAD_DIM * HIDDEN
    assert main(command(source)) == 0
    text = capsys.readouterr().out
    assert "K/V heads   6 → 2, pooled by mean" in text
    assert "480 B → 160 B per token (bf16), 3.00× smaller" in text
    assert main(command(source)) == 2
    assert "is not empty" in capsys.readouterr().err
