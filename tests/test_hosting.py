"""What a host relies on: the Dockerfile's steps, the settings' documentation, the dependency audit."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from attention.kernels import compiler
from attention.settings import Settings
from tests.event_loop import run
from tests.long import SOAK, short
from ui.server import connections

ROOT = Path(__file__).resolve().parents[1]
HOSTING = (ROOT / "docs/hosting.md").read_text()


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rehearse, audit = script("rehearse"), script("audit")


def test_instructions_are_read_as_an_engine_reads_them() -> None:
    text = "# a comment\nFROM a AS b\n  # another\nRUN one && \\\n    two\nenv A=1 B=2\n\nCMD exec x\n"
    assert rehearse.instructions(text) == [
        ("FROM", "a AS b"),
        ("RUN", "one && two"),
        ("ENV", "A=1 B=2"),
        ("CMD", "exec x"),
    ]


def test_the_image_runs_without_privileges_and_says_how_it_is() -> None:
    steps = rehearse.instructions((ROOT / "Dockerfile").read_text())
    names = [name for name, _ in steps]
    assert dict(steps)["USER"] != "root"
    assert names.index("USER") < names.index("CMD")
    assert "/_stcore/health" in dict(steps)["HEALTHCHECK"]
    assert "${TORCH_INDEX:+" in next(rest for name, rest in steps if name == "RUN")


def test_the_image_holds_the_program_and_nothing_else() -> None:
    held = {str(path) for path in rehearse.context_files()}
    needed = ["serve.py", "app.py", "requirements.txt", "pyproject.toml", ".streamlit/config.toml", "ui/favicon.png"]
    for part in ("attention", "pages", "ui", "viz"):
        listed = subprocess.run(["git", "ls-files", part], cwd=ROOT, capture_output=True, text=True, check=True)
        needed += [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert set(needed) <= held
    assert not {name for name in held if name.split("/")[0] in {"tests", "bench", "docs", ".git", ".venv", "var"}}


def test_every_setting_is_documented() -> None:
    assert "python -m attention.settings" in HOSTING
    printed = subprocess.run(
        [sys.executable, "-m", "attention.settings"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": "postgresql://u:secret@h/d"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "secret" not in printed
    lines = {line.split("=")[0]: line for line in printed.splitlines()}
    for item in fields(Settings):
        assert item.metadata["meaning"] in lines[item.metadata["variable"]]
    # the table also lists what the code reads from the environment beside the settings
    sources = [
        ROOT / "serve.py",
        ROOT / "app.py",
        *(p for d in ("attention", "ui", "pages") for p in (ROOT / d).rglob("*.py")),
    ]
    read = {name for path in sources for name in re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", path.read_text())}
    set_by_torchrun = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}
    of_python = {"PYTHONPATH"}
    assert read, "no variable found: the pattern is out of date"
    for name in read - set_by_torchrun - of_python:
        assert f"`{name}`" in HOSTING, f"{name} is not documented"


@pytest.mark.timeout(short(1000, 200))
def test_the_dockerfiles_steps_give_a_healthy_server_without_privileges() -> None:
    command = [sys.executable, "deploy/rehearse.py", "--requirements-from", sys.prefix, "--wait", "120"]
    # the smallest library for this processor; the long form builds all and times one of them
    small = [f"--build-arg=KERNEL_{name}" for name in ("TARGETS=here", "LIBRARIES=rounding")]
    compiler_here = compiler.missing() is None
    command += short(["--time"], small if compiler_here else [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=short(900, 180))
    if not compiler_here:
        assert "there is no compiler" in done.stdout + done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    uid = re.search(r"healthy after [\d.]+ s, as uid (\d+)", done.stdout)
    assert uid, done.stdout
    assert f"native kernels built ahead: {short(10, 1)} of 10, a compiler: none" in done.stdout
    assert not SOAK or re.search(r"GQA-8, 16k tokens, native: [\d.]+ ms", done.stdout)
    assert int(uid[1]) != 0


def test_an_unknown_instruction_is_refused(tmp_path: Path) -> None:
    build = rehearse.Rehearsal(tmp_path, "/bin/true", None, {})
    with pytest.raises(SystemExit, match="ONBUILD"):
        build.do("ONBUILD", "RUN x")


def test_the_audit_tells_found_from_unasked() -> None:
    clean = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    unknown = {"name": "c", "skip_reason": "not found"}
    assert audit.verdict({"dependencies": [clean, bad, unknown]}) == (
        1,
        "audit: known vulnerabilities\n  b 2: PYSEC-1, mended in ['3']",
    )
    assert audit.verdict({"dependencies": [clean, unknown]}) == (
        0,
        "audit: 1 packages, no known vulnerability; not known to the service: c",
    )
    code, message = audit.verdict({"dependencies": [unknown]})
    assert code == 0
    assert message.startswith("audit skipped")


@pytest.mark.parametrize("program", ["import time; time.sleep(30)", "raise SystemExit('no network')"])
def test_the_audit_waits_for_nobody(program: str) -> None:
    code, message = audit.audit(1.0, (sys.executable, "-c", program))
    assert code == 0
    assert message.startswith("audit skipped")


def test_the_audit_asks_about_what_packages_bring_along() -> None:
    found = audit.installed(["streamlit==1.67.0", "psycopg[binary]"])
    assert {"streamlit", "starlette", "psycopg", "psycopg-binary"} <= set(found)
    assert "pytest" not in found


def test_answers_are_sent_at_once() -> None:
    """Once the app has started, every connection that is accepted has Nagle's delay switched off."""

    async def started(listening: socket.socket) -> int:
        connections.prepare_listening()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        assert run(started(listening)) == 1
