"""The command line in a shell: output that cannot be written, paths that are no files, terminals with few abilities."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention.convert import run as convert_module
from attention.convert.run import convert
from tests import convert_source

ROOT = Path(__file__).resolve().parents[2]
LLAMA = "meta-llama/Llama-3.1-8B"
source = pytest.fixture(convert_source.source)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m attention` as "$A" in a shell; nobody waits longer than a minute."""
    env = {**os.environ, "A": f"{sys.executable} -m attention", "HEADSHARE_HUB": "0", **environment}
    return subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", [f"$A kv {LLAMA}", f"$A kv {LLAMA} --json", "$A models", "$A --help"])
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_told(command: str, where: str) -> None:
    if where == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"{command} {where}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr or "standard output is closed" in done.stderr


def test_a_reader_that_has_gone_is_not_told() -> None:
    done = shell("$A models --json | true; $A kv nothing-of-the-kind 2>&- >&-; echo")
    assert "Traceback" not in done.stderr


def test_a_terminal_of_ascii_does_not_fail_a_conversion(source: Path, tmp_path: Path) -> None:
    done = shell(f"$A convert {source} {tmp_path / 'target'} --n-kv-heads 2", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "K/V heads   6 ? 2" in done.stdout
    assert (tmp_path / "target" / "config.json").exists()


@pytest.mark.parametrize(
    "command",
    ["kv {}/config.json", "kv {}", "fit {}/config.json", "verify {}/config.json", "convert {} {}-out --n-kv-heads 2",
     "uptrain {} --alpha-steps 1 --data {}/config.json", "runs add {}/config.json"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "loop"])
def test_what_is_no_file_is_refused_at_once(command: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to(name)
    done = shell("$A " + command.replace("{}", str(folder)))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_folders_that_lead_to_themselves(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "loop").symlink_to("loop")
    for command in (f"convert {source} loop/x", "convert loop x", f"convert {source} loop"):
        done = shell(f"cd {tmp_path / 'elsewhere'} && PYTHONPATH={ROOT} $A {command} --n-kv-heads 2")
        assert done.returncode in (1, 2), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("kv", LLAMA, "--context", "9" * 100_000), ("kv", LLAMA, "--kv-dtype", "x" * 100_000), ("kv", "x" * 100_000),
     ("kv", LLAMA, "--" + "x" * 100_000), ("x" * 100_000,), ("fit", LLAMA, "--accelerator", "x" * 100_000),
     ("kv", "/" + "x" * 100_000), ("kv", "x" * 100_000 + ".json"), ("runs", "show", "x" * 100_000)],
)  # fmt: skip
def test_a_message_quotes_no_more_than_a_screen(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "attention", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert 0 < len(done.stderr + done.stdout) < 3000


def test_a_message_does_not_speak_to_the_terminal(tmp_path: Path) -> None:
    done = shell("$A kv \"$(printf 'a\\033[2Jb')\"")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def test_the_room_that_is_asked_for_is_the_room_that_is_used(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte less than the files take is refused; the weights alone would have fitted."""
    (source / "tokenizer.json").write_text("{" + " " * 300_000 + "}")
    report = convert(source, tmp_path / "elsewhere" / "whole", 2)
    block = os.statvfs(tmp_path).f_frsize
    used = sum(
        -(-path.stat().st_size // block) * block
        for path in (tmp_path / "elsewhere" / "whole").rglob("*")
        if path.is_file()
    )
    assert used > report.bytes_after + 300_000
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: _Usage(used - 1))
    with pytest.raises(ValueError, match=f"the result needs {used:,}"):
        convert(source, tmp_path / "elsewhere" / "second", 2)
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: _Usage(used))
    convert(source, tmp_path / "elsewhere" / "second", 2)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free
