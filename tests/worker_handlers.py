"""A worker process with handlers that misbehave in every way the tests need. tests/worker starts it."""

import sys
from pathlib import Path

from attention.worker.child import main

sys.path.insert(0, str(Path(__file__).parent))

if __name__ == "__main__":
    main(
        {
            name: f"worker_jobs.{name}"
            for name in ("count", "hang", "eat", "crash", "refuse", "big", "storm", "gulp", "ready", "prepared")
        }
    )
