"""Perform the Dockerfile's steps without a container engine, then start the server and wait until it is healthy.

    python deploy/rehearse.py [--folder DIR] [--requirements-from VENV] [--build-arg NAME=VALUE] [--time] [--keep]

The script reads each instruction from the Dockerfile and performs it in a clean folder that stands for the image's
root. It moves absolute paths of the image below this folder. `COPY` takes the files that a build context would hold
(git's files without those of .dockerignore). `RUN` runs in a shell; if the script runs as root, the shell runs as a
user without privileges. Only the creation of users is left out. `--requirements-from` links the packages of an existing
virtual environment instead of installing them, for a quick rehearsal. If a user without privileges may not run the
interpreter, such as one in root's home, the script first copies it into the folder.

The final stage stands for an image without a compiler: PATH there has only the image's own programs. `--time` times
decode attention with 8 K/V heads there, with the native kernel that an earlier stage has built.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
# A container engine's own configuration would set these for a build: registries, certificates, proxies.
PASSED_ON = re.compile(r"PIP_\w+|SSL_CERT_\w+|\w+_CA_BUNDLE|(?:https?|no)_proxy", re.IGNORECASE)
NOT_NEEDED = ("site-packages", "test", "idlelib", "config-*", "*.a", "__pycache__", "include", "share")
IMAGE_PATHS = re.compile(r"(?<![\w.:/}])/(opt|app|data|tmp|home)\b")


def instructions(text: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order; continued lines are joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(p[0].upper(), p[1]) for p in (line.split(None, 1) for line in joined.splitlines()) if len(p) == 2]


def context_files() -> list[Path]:
    """The build context: the files that git lists, without those that .dockerignore names."""
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
    """The state that a build keeps from one instruction to the next.

    Attributes:
        user: arguments of ``subprocess`` that drop root's privileges; empty if the script does not run as root.
    """

    def __init__(self, folder: Path, python: str, venv: Path | None, build_args: dict[str, str]) -> None:
        self.folder, self.linked_venv, self.build_args = folder, venv, build_args
        self.user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        self.env: dict[str, str] = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
        self.env |= {k: v for k, v in os.environ.items() if PASSED_ON.fullmatch(k)}
        self.workdir = folder
        self.command = self.health = ""
        for name in ("opt", "app", "data", "tmp", "home/user"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.python = self.usable(python)

    def usable(self, python: str) -> str:
        """The path `python`, or the path of a copy in the folder if the user without privileges may not run it."""
        try:
            if subprocess.run([python, "-c", ""], cwd="/", capture_output=True, **self.user).returncode == 0:
                return python
        except PermissionError:
            pass
        asked = [
            python,
            "-c",
            "import sys; print(sys.base_prefix, f'python{sys.version_info[0]}.{sys.version_info[1]}')",
        ]
        prefix, name = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.split()
        copy = self.folder / "opt/python"
        for part in ("bin", "lib"):
            ignored = shutil.ignore_patterns(*NOT_NEEDED)
            shutil.copytree(Path(prefix, part), copy / part, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        # an interpreter with a shared library looks for the library where it was first installed
        self.env["LD_LIBRARY_PATH"] = str(copy / "lib")
        print(f"rehearse: {prefix} is closed to other users; its interpreter is copied", flush=True)
        return str(copy / "bin" / name)

    def link(self, venv: Path) -> None:
        """Make a virtual environment in the folder that uses the packages of `venv`.

        Raises:
            SystemExit: `venv` is no virtual environment, the user may not read it, or its Python is another version.
        """
        packages = next((venv / "lib").glob("python3*/site-packages"), None)
        if packages is None:
            raise SystemExit(f"rehearse: {venv} is no virtual environment")
        if subprocess.run(["/usr/bin/test", "-r", str(packages.resolve())], **self.user).returncode:
            raise SystemExit(f"rehearse: uid {NOBODY} may not read {packages}: give it a place outside a private home")
        own = self.folder / "opt/venv"
        self.wait(f"{shlex.quote(self.python)} -m venv --without-pip {own}")
        site = own / "lib" / packages.parent.name / "site-packages"
        if not site.is_dir():
            raise SystemExit(
                f"rehearse: {venv} belongs to {packages.parent.name}, and {self.python} is another version"
            )
        site.rmdir()
        site.symlink_to(packages.resolve())
        for script in (venv / "bin").iterdir():
            first, _, rest = script.read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"python" in first and not script.is_symlink():
                (own / "bin" / script.name).write_bytes(f"#!{own}/bin/python\n".encode() + rest)
                (own / "bin" / script.name).chmod(0o755)

    def moved(self, text: str) -> str:
        """`text` with the image's absolute paths moved below the folder."""
        return IMAGE_PATHS.sub(lambda m: f"{self.folder}/{m.group(1)}", text)

    def give(self) -> None:
        """Give the folder and all its files to the user without privileges."""
        if self.user:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(self.folder)], check=True)

    def shell(self, command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start `command` in a shell, without privileges, as in the image."""
        return subprocess.Popen(
            ["/bin/sh", "-c", command], cwd=self.workdir, env=self.env, start_new_session=True, **self.user, **options
        )

    def wait(self, command: str) -> None:
        """Run `command` to its end.

        Raises:
            SystemExit: its exit code is not 0.
        """
        self.give()
        if code := self.shell(command).wait(timeout=1800):
            raise SystemExit(f"rehearse: exit code {code}: {command}")

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
        elif name == "FROM":
            if " AS " not in rest:  # the final stage
                self.env["PATH"] = f"{self.folder}/opt/venv/bin"
        elif name not in ("USER", "EXPOSE"):
            raise SystemExit(f"rehearse: the Dockerfile uses {name}, which this script does not know")

    def copy(self, rest: str) -> None:
        words = [w for w in shlex.split(rest) if not w.startswith("--chown")]
        if words[0].startswith("--from"):
            return  # both stages share the folder
        source, target = words[0], Path(self.moved(words[1]))
        folder = Path(source)
        for path in context_files() if (ROOT / folder).is_dir() else [folder]:
            if folder not in (path, *path.parents):
                continue
            destination = target / path.relative_to(folder) if path != folder else target
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, destination)

    def run(self, rest: str) -> None:
        if "useradd" in rest:
            return
        if "-m venv" in rest and self.linked_venv:
            self.link(self.linked_venv.absolute())
            return
        self.wait(self.moved(rest).replace("python3 -m venv", f"{shlex.quote(self.python)} -m venv"))


def kernels(build: Rehearsal, timed: bool) -> None:
    """Print which native kernels the image's user finds in it, and with `timed` the time of a step with one of them.

    Raises:
        SystemExit: there is none, or the step was not timed with it.
    """
    build.give()
    python = f"{build.env['VENV']}/bin/python -m attention"

    def output(command: str) -> str:
        return build.shell(f"{python} {command}", stdout=subprocess.PIPE).communicate(timeout=300)[0].decode()

    listed = output("kernels list").splitlines()
    ahead = [line for line in listed if ".so" in line]
    compiling = [line for line in listed if "compiled when first used" in line]
    print(f"native kernels built ahead: {len(ahead)} of {len(listed)}, a compiler: {'yes' if compiling else 'none'}")
    if not ahead:
        raise SystemExit("rehearse: no native kernel was built for this processor")
    if timed:
        told = output("bench --n-kv-heads 8 --context 16384 --implementations native,repeat_sdpa --device cpu --json")
        for row in map(json.loads, told.splitlines()):
            if row["median_s"] is None:
                raise SystemExit(f"rehearse: {row['implementation']} was not timed: {row['note']}")
            print(
                f"GQA-8, 16k tokens, {row['implementation']}: {row['median_s'] * 1e3:.2f} ms, "
                f"{row['times_floor']:.2f} times its floor"
                + f" (not steady: {row['unsteady']})"
                * bool(row["unsteady"])
            )


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def serve(build: Rehearsal, wait_s: float = 60) -> tuple[float, int]:
    """Start CMD on loopback, wait until HEALTHCHECK passes, and stop the server.

    Returns:
        (seconds until it was healthy, uid of the server's process).

    Raises:
        SystemExit: the server ended, or was not healthy after `wait_s` seconds.
    """
    build.env["PORT"] = str(free_port())
    build.give()
    started = time.monotonic()
    server = build.shell(build.command.replace("0.0.0.0", "127.0.0.1"))
    try:
        while time.monotonic() - started < wait_s:
            if server.poll() is not None:
                raise SystemExit(f"rehearse: the server ended with exit code {server.returncode}")
            if build.shell(build.health, stderr=subprocess.DEVNULL).wait() == 0:
                return time.monotonic() - started, Path(f"/proc/{server.pid}").stat().st_uid
            time.sleep(0.3)
        raise SystemExit(f"rehearse: not healthy after {wait_s:.0f} s")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--requirements-from", type=Path, metavar="VENV")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="longest time to become healthy")
    parser.add_argument("--time", action="store_true", help="time decode attention with 8 K/V heads in the image")
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
        kernels(build, args.time)
        seconds, uid = serve(build, args.wait)
        print(f"healthy after {seconds:.1f} s, as uid {uid}")
        if uid == 0:
            raise SystemExit("rehearse: the server runs as root")
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
