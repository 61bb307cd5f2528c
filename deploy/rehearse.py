"""Perform the Dockerfile's steps without a container engine, then start the result and ask for its health.

    python deploy/rehearse.py [--folder DIR] [--requirements-from VENV] [--build-arg NAME=VALUE] [--keep]

Each instruction is read from the Dockerfile itself and done in a clean folder that stands for the image's root:
absolute paths of the image are moved below it, `COPY` takes the files a build context would hold (git's, less
.dockerignore), `RUN` runs in a shell, as a user without privileges where the script itself runs as root. Creating
users is the one thing left out. `--requirements-from` links an existing virtual environment in place of installing
one, for a quick rehearsal.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
IMAGE_PATHS = re.compile(r"(?<![\w.:/}])/(opt|app|data|tmp|home)\b")


def instructions(text: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order; continued lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(p[0].upper(), p[1]) for p in (line.split(None, 1) for line in joined.splitlines()) if len(p) == 2]


def context_files() -> list[Path]:
    """The build context: files git knows of, less what .dockerignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    ignored = [p.strip() for p in (ROOT / ".dockerignore").read_text().splitlines() if p.strip()]
    names = [n for n in listed.stdout.decode().split("\0") if n and (ROOT / n).is_file()]
    return [Path(n) for n in names if not any(fnmatch.fnmatch(n, p) or n.startswith(p + "/") for p in ignored)]


class Rehearsal:
    """The state a build carries from instruction to instruction."""

    def __init__(self, folder: Path, python: str, venv: Path | None, build_args: dict[str, str]) -> None:
        self.folder, self.python, self.linked_venv, self.build_args = folder, python, venv, build_args
        self.env: dict[str, str] = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
        self.workdir = folder
        self.command = self.health = ""
        for name in ("opt", "app", "data", "tmp", "home/user"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def moved(self, text: str) -> str:
        """`text` with the image's absolute paths below the folder."""
        return IMAGE_PATHS.sub(lambda m: f"{self.folder}/{m.group(1)}", text)

    def shell(self, command: str, **options: object) -> subprocess.Popen[bytes]:
        # as a user without privileges, as in the image
        user: dict[str, object] = {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}
        if user:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(self.folder)], check=True)
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.workdir,
            env=self.env,
            start_new_session=True,
            **user,
            **options,  # type: ignore[call-overload]
        )

    def do(self, name: str, rest: str) -> None:
        if name in ("ARG", "ENV"):
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                self.env[key] = self.build_args.get(key, self.moved(value)) if name == "ARG" else self.moved(value)
        elif name == "WORKDIR":
            self.workdir = Path(self.moved(rest))
            self.workdir.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            self.copy(rest)
        elif name == "RUN":
            self.run(rest)
        elif name == "HEALTHCHECK":
            self.health = self.moved(rest.split("CMD ", 1)[1])
        elif name == "CMD":
            self.command = self.moved(rest)
        elif name not in ("FROM", "USER", "EXPOSE"):
            raise SystemExit(f"rehearse: the Dockerfile uses {name}, which this script does not know")

    def copy(self, rest: str) -> None:
        words = [w for w in shlex.split(rest) if not w.startswith("--chown")]
        if words[0].startswith("--from"):
            return  # both stages share the folder
        source, target = words[0], Path(self.moved(words[1]))
        for path in context_files() if source == "." else [Path(source)]:
            destination = target / path if source == "." else target
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, destination)

    def run(self, rest: str) -> None:
        if "useradd" in rest:
            return
        if "venv" in rest and self.linked_venv:
            (self.folder / "opt/venv").symlink_to(self.linked_venv.resolve())
            return
        process = self.shell(self.moved(rest).replace("python3 -m venv", f"{shlex.quote(self.python)} -m venv"))
        if process.wait(timeout=1800):
            raise SystemExit(f"rehearse: RUN failed with exit code {process.returncode}: {rest}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def serve(build: Rehearsal, wait_s: float = 60) -> float:
    """Start CMD on loopback, wait for HEALTHCHECK to pass, stop it. Returns the seconds until healthy."""
    build.env["PORT"] = str(free_port())
    started = time.monotonic()
    server = build.shell(build.command.replace("0.0.0.0", "127.0.0.1"))
    try:
        while time.monotonic() - started < wait_s:
            if server.poll() is not None:
                raise SystemExit(f"rehearse: the server ended with exit code {server.returncode}")
            if build.shell(build.health, stderr=subprocess.DEVNULL).wait() == 0:
                return time.monotonic() - started
            time.sleep(0.3)
        raise SystemExit(f"rehearse: not healthy after {wait_s:.0f} s")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--requirements-from", type=Path, metavar="VENV")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="headshare-image-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    build = Rehearsal(
        folder.resolve(), args.python, args.requirements_from, dict(a.split("=", 1) for a in args.build_arg)
    )
    try:
        for name, rest in instructions((ROOT / "Dockerfile").read_text()):
            print(f"{name} {rest[:100]}", flush=True)
            build.do(name, rest)
        print(f"healthy after {serve(build):.1f} s, as uid {NOBODY if os.getuid() == 0 else os.getuid()}")
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
