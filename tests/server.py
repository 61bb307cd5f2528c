"""A real server in its own process, the errors in its log, and Chromium, for every test that needs them.

A server listens on a free port of the loopback interface and keeps its data in a given folder.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 90_000
"""The longest wait for a page, in milliseconds. A shared machine can be slow, and nothing here is timed."""
_RAISED = re.compile(r"Traceback \(most recent call last\)|a page failed|Uncaught app execution|ERROR:|Exception in")


def chromium_path() -> str | None:
    """CHROMIUM of the environment, or the system's; None leaves the choice to Playwright.

    The headless shell is the same engine without the windows around a page: a visit takes three quarters of the time.
    """
    if named := os.environ.get("CHROMIUM"):
        return named
    known = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((path for name in known if (path := shutil.which(name))), None)


FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    # For every event that a test listens to, the browser notes its position in the scripts. With this flag it keeps all
    # positions and does not read the scripts again for each, so a page opens in three quarters of the time.
    "--js-flags=--no-enable-lazy-source-positions",
)


def chromium(playwright: Playwright) -> Browser:
    """The browser that all tests use."""
    return playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))


class Server:
    """``streamlit run serve.py`` from the checkout, in its own process."""

    def __init__(self, data: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        data.mkdir(parents=True, exist_ok=True)
        self.log = data / "server.log"
        self._read = 0
        command = [sys.executable, "-m", "streamlit", "run", "serve.py", "--server.address", "127.0.0.1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--server.port", str(self.port), "--browser.gatherUsageStats", "false"],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                # a worker with lower priority than pages would also wait for the other tests
                env={**os.environ, "HEADSHARE_WORKER_NICE": "0", "HEADSHARE_DATA_DIR": str(data), **environment},
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        self.close()
        raise RuntimeError(f"the server did not start:\n{self.log.read_text(errors='replace')}")

    def raised(self) -> str:
        """The log since the last call, if a page, a fragment or a callback raised; otherwise an empty string."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        self._read += len(fresh)
        text = fresh.decode(errors="replace")
        return text if _RAISED.search(text) else ""

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(15)
