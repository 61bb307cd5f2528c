"""The wall clock is set forward or back by years while the server works. No duration and no wait may depend on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from attention.kept import store
from attention.kept.store import Store, StoreError
from attention.settings import Settings
from attention.timing import runs
from attention.worker.client import Limits, Queues, State
from bench.load import server
from bench.session import Session
from tests.faults.test_strangers import ask, run
from tests.pages.test_pages import assert_sound, open_page, said
from tests.shifted_clock import sitecustomize as clock
from tests.timing_samples import HOST, result
from tests.timing_samples import run as sample_run
from tests.worker.shared import COMMAND, KINDS, PATIENCE_S, until

YEARS = 10 * 365 * 24 * 3600
Jump = Callable[[], None]


@pytest.fixture(params=[YEARS, -YEARS], ids=["forward", "back"])
def jump(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jump:
    """``jump()`` sets the clock of this process and of those that it starts."""
    file = tmp_path / "clock"
    file.write_text("0")
    folder = str(Path(clock.__file__).parent)
    monkeypatch.setenv("SHIFTED_CLOCK", str(file))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH")))))
    monkeypatch.setattr(time, "time", clock.shifted)
    monkeypatch.setattr(time, "time_ns", clock.shifted_ns)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Shifted:
            return cls.fromtimestamp(clock.shifted(), tz)

    monkeypatch.setattr(runs, "datetime", Shifted)

    def jump_now() -> None:
        file.write_text(str(request.param))

    return jump_now


@pytest.fixture
def queues(tmp_path: Path, jump: Jump) -> Iterator[Queues]:
    settings = Settings(lock_dir=str(tmp_path / "locks"), use_gpu=False, worker_nice=0, session_jobs=3)
    own = Queues(settings, KINDS, COMMAND)
    yield own
    own.close()


def timed() -> runs.Run:
    """A run whose date is now."""
    return runs.new([result()], host=HOST)


def test_a_run_ends_at_its_limit(queues: Queues, jump: Jump) -> None:
    hung = queues.submit("hang", {}, owner="a", limits=Limits(seconds=1))
    until(lambda: hung.results)
    jump()
    assert hung.wait(PATIENCE_S)
    assert "longer than the limit of 1.00 s" in str(hung.error)
    assert 1 <= hung.elapsed_s < PATIENCE_S


def test_a_run_within_its_limit_is_not_ended(queues: Queues, jump: Jump) -> None:
    job = queues.submit("count", {"n": 50, "pause_s": 0.01}, owner="a", limits=Limits(seconds=60))
    until(lambda: job.results)
    jump()
    assert job.wait(PATIENCE_S)
    assert (job.state, len(job.results)) == (State.DONE, 50)
    assert 0 < job.elapsed_s < 60


def test_the_order_of_the_queue_is_that_of_arrival(queues: Queues, jump: Jump) -> None:
    running = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
    second = queues.submit("count", {"n": 1}, owner="b")
    jump()
    third = queues.submit("count", {"n": 1}, owner="c")
    until(lambda: running.state is State.RUNNING)
    assert (running.position, second.position, third.position) == (0, 1, 2)
    running.stop()
    assert third.wait(PATIENCE_S)
    assert second.ended_at is not None
    assert third.started_at is not None
    assert second.ended_at <= third.started_at


def test_the_oldest_kept_run_is_the_one_that_came_first(tmp_path: Path, jump: Jump) -> None:
    own = Store(Settings(data_dir=str(tmp_path), max_stored_runs=3))
    first, second = own.save(timed()), own.save(timed())
    jump()
    later = [own.save(timed()) for _ in range(2)]
    years = abs(datetime.fromisoformat(later[0].created) - datetime.fromisoformat(first.created)).days // 365
    assert years in (9, 10), "the clock was set"
    with pytest.raises(StoreError, match="made room"):
        own.load(first.id)
    assert [own.load(kept.id) for kept in (second, *later)] == [second, *later]
    own.close()


def test_a_link_that_was_opened_opens_again(tmp_path: Path, jump: Jump, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Store(Settings(data_dir=str(tmp_path)))
    monkeypatch.setattr(store, "process_store", own)
    kept = own.save(sample_run())
    at = open_page("pages/timings.py", run=kept.id)
    assert "Measured on this server" in said(at)
    jump()
    # what was read is kept for an hour: setting the clock must neither end that early nor make it last for ever
    own.close()
    monkeypatch.setattr(store, "process_store", Store(Settings(data_dir=str(tmp_path / "clock" / "no folder"))))
    at.run()
    assert_sound(at)
    assert "Measured on this server" in said(at)
    assert "can't be reached" not in said(at)


def years_off(address: str) -> int:
    """Years between a server's clock and the true one, read from its answers."""
    date = parsedate_to_datetime(ask(address, "/_stcore/health")[1]["date"])
    return abs(date - datetime.now(UTC)).days // 365


def test_open_tabs_go_on_and_new_ones_open(jump: Jump) -> None:
    async def scenario(address: str) -> None:
        async with Session(address) as before:
            await before.rerun()
            jump()
            until(lambda: years_off(address) >= 9)
            await before.rerun()
            async with Session(address, "timings") as after:
                await after.rerun()

    with server() as (address, _):
        run(scenario(address))
