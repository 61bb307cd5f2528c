"""``python -m bench [NAME …]``: run the measurements of this folder, each in a process of its own.

Without names it runs those of ``DEFAULT``: they need nothing but this machine and a quarter of an hour.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import bench

DEFAULT = ("decode",)
HELPERS = ("session", "peers", "browser", "__main__")


def main(names: list[str]) -> int:
    known = [m.name for m in pkgutil.iter_modules(bench.__path__) if m.name not in HELPERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"python -m bench: unknown {unknown[0]!r}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or DEFAULT:
        print(f"== {name}", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
