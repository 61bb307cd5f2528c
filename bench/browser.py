"""A browser without an inspector, for timing.

A browser that a test drives has an inspector attached. The inspector notes where every request and error came from,
passes on every WebSocket message, and reads Streamlit's scripts several times for it: the first screen takes a second
longer than it does for a visitor. Here a browser extension watches the page and reports to this process. Each visit has
a fresh profile, so nothing of the front end is cached; the browser has been open for two seconds when the tab opens.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATIENCE_S = 60
_SCRIPT = """
const there = (selector) => document.querySelector(selector) !== null;
const run = '[data-testid=stApp][data-test-script-state=notRunning]';
const done = () => there(run) && !there('[data-testid=stSkeleton]');
// the next frame shows a change; a timeout set in that frame runs after it has been drawn
const painted = () => new Promise((then) => requestAnimationFrame(() => setTimeout(() => then(performance.now()))));
const pause = (ms) => new Promise((then) => setTimeout(then, ms));
const until = async (holds) => { while (!holds()) await pause(25); };
const report = (found) => fetch('REPORT/?found=' + encodeURIComponent(JSON.stringify(found)), { mode: 'no-cors' });
"""


def visit(url: str, script: str) -> Any:
    """Open `url`, run `script` as the page begins to load, and return what the script gives to ``report(…)``.

    The script may use ``there(selector)``, ``done()`` (the page's run has ended), ``painted()``, ``pause(ms)``,
    ``until(holds)``. Times are milliseconds since the navigation began. The reported value is plain JSON.

    Raises:
        SystemExit: there is no browser, or nothing was reported within PATIENCE_S seconds.
    """
    with _reports() as (address, found), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        extension, profile = Path(folder) / "extension", Path(folder) / "profile"
        _write(extension, (_SCRIPT + script).replace("REPORT", address))
        browser = subprocess.Popen(
            [
                *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--load-extension={extension}", "--disable-features=DisableLoadExtensionCommandLineSwitch"),
                *(f"--user-data-dir={profile}", "--window-size=1280,800", "--remote-debugging-port=0", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _open_tab(profile, url)
            return found.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise SystemExit(f"{url}: nothing was reported within {PATIENCE_S} s") from None
        finally:
            browser.terminate()
            browser.wait(timeout=20)


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit("no Chromium on the path")


def version() -> str:
    done = subprocess.run([chromium(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def _reports() -> Iterator[tuple[str, queue.Queue[Any]]]:
    """An address on loopback that takes reports, and the queue of values reported to it."""
    found: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for text in parse_qs(urlsplit(self.path).query).get("found", []):
                found.put(json.loads(text))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", found
    finally:
        http.shutdown()


def _write(extension: Path, script: str) -> None:
    extension.mkdir()
    everywhere = ["http://127.0.0.1/*"]
    (extension / "look.js").write_text(f"(async () => {{ {script} }})();")
    (extension / "manifest.json").write_text(
        json.dumps(
            {
                "manifest_version": 3,
                "name": "look",
                "version": "1",
                "host_permissions": everywhere,
                "content_scripts": [{"matches": everywhere, "js": ["look.js"], "run_at": "document_start"}],
            }
        )
    )


def _open_tab(profile: Path, url: str) -> None:
    """Open `url` in a new tab through the browser's HTTP address, which attaches no inspector."""
    told = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE_S
    while not (told.exists() and told.read_text().strip()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{chromium()} did not start")
        time.sleep(0.1)
    time.sleep(2)
    port = told.read_text().split()[0]
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?{url}", method="PUT")
    urllib.request.urlopen(asked, timeout=PATIENCE_S).close()
