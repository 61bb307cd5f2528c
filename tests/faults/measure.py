"""Measure what one client can take from the others: memory of uploads, places in the queue, descriptors.

    python -m tests.faults.measure [uploads runs descriptors] [--json FILE]

Each measurement has a fresh server on loopback, and is bounded in number and time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from bench.load import rss, server, summary
from tests.faults.clients import HONEST, STRANGER, Uploads, Visitor, closed_by_server, dangling

MB = 2**20


def uploads(files: int = 1500, watch_s: float = 60) -> dict[str, Any]:
    """One session uploads many files of 1 MB directly to the route, then closes."""

    async def scenario(address: str, process: psutil.Process) -> dict[str, Any]:
        async with Visitor(address, "timings") as first:  # imports and caches
            await first.rerun()
        before, most = rss(process), 0
        statuses: dict[int, int] = {}
        words = ""
        began = time.perf_counter()
        async with Visitor(address, "timings", source=STRANGER) as session:
            await session.rerun()
            own = Uploads(address, STRANGER)
            for number in range(files):
                status, text = await asyncio.to_thread(own.put, session.id, str(number), 1_000_000)
                statuses[status] = statuses.get(status, 0) + 1
                words = text if status >= 400 else words
                most = max(most, rss(process))
            own.close()
        seconds = time.perf_counter() - began
        await asyncio.sleep(watch_s)
        return {
            "files": files, "seconds": seconds, "statuses": statuses, "words": words, "before_mb": before // MB,
            "most_mb": most // MB, "after_mb": rss(process) // MB, "after_s": watch_s,
        }  # fmt: skip

    with server() as (address, process):
        return asyncio.run(scenario(address, process))


def runs(sessions: int = 50, patience_s: float = 120, job_s: int = 15) -> dict[str, Any]:
    """Sessions of one client press Run on Timings; then another client presses Run, and a third moves sliders.

    Runs end after `job_s` seconds, so that the results show the queue and not the speed of this machine.
    """
    os.environ["HEADSHARE_JOB_SECONDS"] = str(job_s)

    async def greedy(address: str, stack: AsyncExitStack, said: list[str]) -> asyncio.Task[None]:
        session = await stack.enter_async_context(Visitor(address, "timings", source=STRANGER))
        await session.rerun()
        await session.press("timings_run")

        async def stay() -> None:
            while True:
                await asyncio.sleep(1)
                await session.rerun()
                said.extend(text for text in session.said if "run" in text.lower())
                session.said.clear()

        return asyncio.create_task(stay())

    async def bystander(address: str, stop: asyncio.Event) -> list[float]:
        times, rng = [], random.Random(1)
        async with Visitor(address, "kv_cache", source="127.0.0.3") as session:
            await session.rerun()
            while not stop.is_set():
                session.move(rng)
                times.append(await session.rerun())
                await asyncio.sleep(0.3)
        return times

    async def scenario(address: str) -> dict[str, Any]:
        said: list[str] = []
        stop = asyncio.Event()
        async with Visitor(address, "timings", source="127.0.0.4") as first:  # imports and caches
            await first.rerun()
            await first.press("timings_run")
            await first.listen(5)
        async with AsyncExitStack() as stack:
            stays = await asyncio.gather(*(greedy(address, stack, said) for _ in range(sessions)))
            watching = asyncio.create_task(bystander(address, stop))
            honest = await stack.enter_async_context(Visitor(address, "timings", source=HONEST))
            await honest.rerun()
            began = time.perf_counter()
            taken = refused = None
            told = ""
            pressed = -60.0
            while time.perf_counter() - began < patience_s and taken is None:
                if time.perf_counter() - pressed > 5 and honest.widget("timings_run"):
                    pressed = time.perf_counter()
                    await honest.press("timings_run")
                    honest.widgets = {i: w for i, w in honest.widgets.items() if not i.endswith("-timings_run")}
                await asyncio.sleep(0.5)
                await honest.rerun()  # a browser asks again by itself while the run lives
                texts, honest.said = honest.said, []
                for text in texts:
                    if text.startswith("Waiting"):
                        told = told or text
                    elif "waiting on this machine" in text or "waiting or running" in text:
                        refused = (refused or 0) + 1
                    elif re.search(r"· [0-9.]+ (ms|s)$", text):
                        taken = taken or time.perf_counter() - began
            stop.set()
            times = await watching
            for stay in stays:
                stay.cancel()
        queue = {text[:120] for text in said}
        return {"sessions": sessions, "honest_taken_after_s": taken, "told": told, "refusals": refused,
                "bystander": summary(times, []), "stranger_was_told": sorted(queue)[:6]}  # fmt: skip

    with server() as (address, _):
        return asyncio.run(scenario(address))


def descriptors(sessions: int = 100, half_open: int = 400, watch_s: float = 40) -> dict[str, Any]:
    """Open and close sessions, and open connections that never finish their header."""

    async def visit(address: str) -> None:
        async with Visitor(address, "about", source=STRANGER) as session:
            await session.rerun()

    async def scenario(address: str, process: psutil.Process) -> dict[str, Any]:
        await visit(address)
        before = process.num_fds()
        for _ in range(sessions):
            await visit(address)
        closed = process.num_fds()
        await asyncio.sleep(15)
        later = process.num_fds()
        hanging = [dangling(address, b"GET / HTTP/1.1\r\nHost:", STRANGER) for _ in range(half_open)]
        await asyncio.sleep(watch_s)
        held = sum(not closed_by_server(one) for one in hanging)
        for one in hanging:
            one.close()
        return {"before": before, "sessions": sessions, "after_closing": closed, "fifteen_s_later": later,
                "half_open": half_open, "held": held, "held_after_s": watch_s}  # fmt: skip

    with server() as (address, process):
        return asyncio.run(scenario(address, process))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="*", default=["uploads", "runs", "descriptors"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    known: dict[str, Callable[[], dict[str, Any]]] = {"uploads": uploads, "runs": runs, "descriptors": descriptors}
    result = {name: known[name]() for name in args.which}
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
