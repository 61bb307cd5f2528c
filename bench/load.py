"""Fifty sessions at once on one server: time of a redraw, errors, memory per session, without and beside a timing job.

    python -m bench.load [--sessions 50] [--moves 12] [--reruns 10000] [--json FILE]

The sessions are real WebSocket sessions on loopback, bounded in number and time. The server is a fresh process; its
memory is read from the operating system. Each session waits 0.5 to 2 s between moves, as people do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench import files
from bench.session import Session

PAGES = ("/", "/kv_cache", "/compare")
ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def server(script: str = "serve.py") -> Iterator[tuple[str, psutil.Process]]:
    """A fresh server on a free loopback port: (address, process)."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        env = {**os.environ, "HEADSHARE_DATA_DIR": data, "HEADSHARE_HUB": "0"}
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.address", "127.0.0.1"]
        process = subprocess.Popen(
            [*command, "--server.port", str(port), "--server.disconnectedSessionTTL", "5"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            address = f"127.0.0.1:{port}"
            for _ in range(300):
                try:
                    with urllib.request.urlopen(f"http://{address}/_stcore/health", timeout=1) as answer:
                        answer.read()
                    break
                except OSError:
                    time.sleep(0.1)
            yield address, psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=20)


def rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


async def visitor(address: str, number: int, moves: int, times: list[float], errors: list[str]) -> None:
    """One person: opens a page, moves a control now and then."""
    rng = random.Random(number)
    page = PAGES[number % len(PAGES)]
    try:
        async with Session(address, page) as session:
            await asyncio.sleep(rng.uniform(0, 5))
            await session.rerun()
            for _ in range(moves):
                await asyncio.sleep(rng.uniform(0.5, 2))
                if not session.move(rng):
                    errors.append(f"{page}: no slider to move")
                    return
                times.append(await session.rerun())
    except Exception as error:
        errors.append(f"{page}: {type(error).__name__}: {error}")


async def crowd(address: str, sessions: int, moves: int) -> tuple[list[float], list[str]]:
    times: list[float] = []
    errors: list[str] = []
    await asyncio.gather(*(visitor(address, n, moves, times, errors) for n in range(sessions)))
    return times, errors


async def many_reruns(address: str, process: psutil.Process, reruns: int) -> dict[str, Any]:
    """The server's resident bytes over `reruns` reruns, 250 in each session, one session after another.

    Growth is counted from a quarter of the reruns on; those before it warm up.
    """
    rng = random.Random(7)
    samples: list[int] = []
    for start in range(0, reruns, 250):
        async with Session(address, PAGES[(start // 250) % len(PAGES)]) as session:
            await session.rerun()
            for _ in range(min(250, reruns - start) - 1):
                session.move(rng)
                await session.rerun()
        samples.append(rss(process))
    warm = samples[len(samples) // 4]
    return {"reruns": reruns, "rss_bytes": samples, "growth_after_warm_up_bytes": samples[-1] - warm}


def summary(times: list[float], errors: list[str]) -> dict[str, Any]:
    ordered = sorted(times)
    return {
        "redraws": len(times),
        "median_s": statistics.median(ordered) if ordered else None,
        "p95_s": ordered[int(0.95 * (len(ordered) - 1))] if ordered else None,
        "max_s": ordered[-1] if ordered else None,
        "errors": errors,
    }


def measure(sessions: int, moves: int, reruns: int) -> dict[str, Any]:
    with server() as (address, process):
        asyncio.run(crowd(address, 3, 4))  # warm up: imports and caches
        before = rss(process)
        times, errors = asyncio.run(crowd(address, sessions, moves))
        during = rss(process)
        time.sleep(8)  # longer than the time a closed session is kept
        result = {
            "sessions": sessions,
            "idle": summary(times, errors),
            "memory_per_session_bytes": (during - before) // max(sessions, 1),
            "memory_kept_after_leaving_bytes": rss(process) - before,
        }
        job = subprocess.Popen(
            [sys.executable, "-m", "attention", "bench", "--n-kv-heads", "32,8,1", "--context", "16384", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        times, errors = asyncio.run(crowd(address, sessions, moves))
        result["beside_a_timing_job"] = summary(times, errors)
        out, _ = job.communicate(timeout=300)
        result["timing_job_lines"] = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if reruns:
            result["many_reruns"] = asyncio.run(many_reruns(address, process, reruns))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--moves", type=int, default=12)
    parser.add_argument("--reruns", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=ROOT / "bench/results/load.json")
    args = parser.parse_args()
    result = measure(args.sessions, args.moves, args.reruns)
    files.write(args.json, result)
    for name in ("idle", "beside_a_timing_job"):
        part = result[name]
        print(f"{name}: {part['redraws']} redraws, median {part['median_s']:.3f} s, p95 {part['p95_s']:.3f} s")
        print(f"  errors: {len(part['errors'])} {part['errors'][:3]}")
    print(f"memory per session {result['memory_per_session_bytes'] / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
