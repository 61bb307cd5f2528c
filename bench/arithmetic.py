"""How long the pure arithmetic takes: every model of the catalogue at 50 contexts, in one process, without torch.

    python -m bench.arithmetic [--rounds 7] [--json bench/results/arithmetic.json]

Each round is a fresh Python process: only the disk's cache is warm. Loading (reading the catalogue, building the layers
of every model) and arithmetic (the models' bytes at 50 contexts from 1 to 2^20) are timed separately. The budget of the
arithmetic is 100 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import files

BUDGET_S = 0.1
ONE_ROUND = """
import json, sys, time
start = time.perf_counter()
from attention.catalog import published as catalog
from attention.memory.footprint import sequence_bytes
imported = time.perf_counter()
specs = [row.spec for row in catalog.models() if row.spec]
loaded = time.perf_counter()
contexts = [round(2 ** (20 * i / 49)) for i in range(50)]
total = sum(sequence_bytes(spec, context, "bf16") for spec in specs for context in contexts)
done = time.perf_counter()
heavy = sorted({"torch", "transformers", "numpy"} & set(sys.modules))
print(json.dumps({"import_s": imported - start, "load_s": loaded - imported, "arithmetic_s": done - loaded,
                  "models": len(specs), "contexts": len(contexts), "bytes": total, "heavy_modules": heavy}))
"""


def one_round() -> dict:
    done = subprocess.run([sys.executable, "-c", ONE_ROUND], capture_output=True, text=True, check=True)
    result: dict = json.loads(done.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("bench/results/arithmetic.json"))
    args = parser.parse_args()
    rounds = [one_round() for _ in range(args.rounds)]
    medians = {name: statistics.median(r[name] for r in rounds) for name in ("import_s", "load_s", "arithmetic_s")}
    first = rounds[0]
    result = {
        "what": "bytes of every catalogue model at 50 contexts, one process, no torch; median of fresh processes",
        "models": first["models"],
        "contexts": first["contexts"],
        "rounds": args.rounds,
        **medians,
        "arithmetic_worst_s": max(r["arithmetic_s"] for r in rounds),
        "budget_s": BUDGET_S,
        "times_under_budget": BUDGET_S / medians["arithmetic_s"],
        "heavy_modules": first["heavy_modules"],
        "python": platform.python_version(),
        "machine": platform.machine(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write(args.json, result)
    print(
        f"{first['models']} models at {first['contexts']} contexts: {1000 * medians['arithmetic_s']:.1f} ms "
        f"({result['times_under_budget']:.1f} times under the budget of {1000 * BUDGET_S:.0f} ms); "
        f"loading the catalogue {1000 * medians['load_s']:.1f} ms, importing {1000 * medians['import_s']:.1f} ms"
    )
    return 0 if medians["arithmetic_s"] <= BUDGET_S and not first["heavy_modules"] else 1


if __name__ == "__main__":
    sys.exit(main())
