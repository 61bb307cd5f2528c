"""Ask the vulnerability service about every package of requirements.txt and about all packages that these need.

    python deploy/audit.py [--timeout SECONDS]

The exit code is 1 if a known vulnerability is found. Without an answer in time (no network, a registry without such
records) the audit says that it is skipped, and passes: a build must not depend on somebody else's server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def installed(requirements: Iterable[str]) -> dict[str, str]:
    """Name -> version of every installed package that the requirements need, directly or through another package."""
    found: dict[str, str] = {}
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        try:
            package = distribution(wanted.name)
        except PackageNotFoundError:
            continue  # a package for another system, or of an extra that nobody asked for
        name = package.metadata["Name"].lower()
        if name in found:
            continue
        # "2.13.0+cpu" is the registry's 2.13.0
        found[name] = package.version.partition("+")[0]
        for text in package.requires or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return found


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """(exit code, message) for pip-audit's JSON report."""
    asked = report["dependencies"]
    holes = [(d, v) for d in asked for v in d.get("vulns", ())]
    if holes:
        lines = (f"  {d['name']} {d['version']}: {v['id']}, mended in {v['fix_versions'] or '—'}" for d, v in holes)
        return 1, "audit: known vulnerabilities\n" + "\n".join(lines)
    unknown = [d["name"] for d in asked if "skip_reason" in d]
    if len(unknown) == len(asked):
        return 0, f"audit skipped: the service knows none of {len(asked)} packages"
    left = f"; not known to the service: {', '.join(unknown)}" if unknown else ""
    return 0, f"audit: {len(asked) - len(unknown)} packages, no known vulnerability{left}"


def audit(timeout_s: float, command: tuple[str, ...] = (sys.executable, "-m", "pip_audit")) -> tuple[int, str]:
    """Run pip-audit for at most `timeout_s` seconds; (exit code, message) as :func:`verdict` gives them."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    packages = installed(line for line in lines if line)
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text("".join(f"{name}=={version}\n" for name, version in sorted(packages.items())))
        options = ["-r", str(pins), "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        try:
            done = subprocess.run(
                [*command, *options, "--timeout", "5"],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                env=os.environ,
            )
        except subprocess.TimeoutExpired:
            return 0, f"audit skipped: no answer within {timeout_s:.0f} s"
    try:
        return verdict(json.loads(done.stdout))
    except (ValueError, KeyError):
        why = done.stderr.strip().splitlines()[-1:] or ["pip-audit gave no report"]
        return 0, f"audit skipped: {why[0][:200]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--timeout", type=float, default=float(os.environ.get("AUDIT_SECONDS", "15")))
    code, message = audit(parser.parse_args().timeout)
    print(message)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
