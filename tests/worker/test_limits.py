"""Runs that hang, eat memory, freeze or multiply: each ends at its limit and says why; the next run goes on."""

import os
import signal
from dataclasses import replace

import psutil
import pytest

from attention.worker.client import Limits, Queues, RefusedError, State
from tests.worker.shared import COMMAND, KINDS, PATIENCE_S, gone, until


def test_a_hung_run_ends_at_the_time_limit(queues):
    # a busy machine takes longer than that to start a worker
    assert queues.submit("count", {"n": 1}, owner="a").wait(PATIENCE_S)
    job = queues.submit("hang", {}, owner="a", limits=Limits(seconds=0.5))
    assert job.wait(PATIENCE_S)
    assert job.state is State.FAILED
    assert "longer than the limit of 500 ms" in job.error
    assert len(job.results) == 1


def test_a_run_over_its_memory_budget_is_ended(queues):
    job = queues.submit("eat", {}, owner="a", limits=Limits(memory_bytes=200 * 2**20))
    assert job.wait(PATIENCE_S)
    assert job.state is State.FAILED
    assert "the limit is 200 MiB" in job.error
    assert job.results
    assert queues.worker_pids() == []


def test_a_run_that_cannot_fit_is_refused_before_it_starts(queues):
    with pytest.raises(RefusedError, match=r"needs 2\.00 GiB of memory and may use 1\.00 GiB"):
        queues.submit("count", {"n": 1}, owner="a", limits=Limits(memory_bytes=2**30, estimate_bytes=2**31))
    job = queues.submit("big", {"bytes": 2**31}, owner="a", limits=Limits(memory_bytes=2**30))
    assert job.wait(PATIENCE_S)
    assert job.results == []
    assert "needs 2.00 GiB of memory; the limit is 1.00 GiB" in job.error


def test_a_worker_frozen_while_idle_is_replaced_before_the_next_run(queues):
    first = queues.submit("count", {"n": 1}, owner="a")
    assert first.wait(PATIENCE_S)
    worker = psutil.Process(first.results[0]["pid"])
    worker.suspend()
    # on a busy machine that takes a moment; a worker that is stopped only after its next run began is another case
    until(lambda: worker.status() == psutil.STATUS_STOPPED)
    after = queues.submit("count", {"n": 1}, owner="a", limits=Limits(seconds=300))
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE
    assert gone(first.results[0]["pid"])


def test_a_worker_frozen_during_a_run_is_given_up(queues):
    job = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a", limits=Limits(seconds=300))
    until(lambda: job.results)
    os.kill(job.results[0]["pid"], signal.SIGSTOP)
    assert job.wait(2 * PATIENCE_S)
    assert job.state is State.FAILED
    assert "stopped from outside" in job.error


def test_a_storm_of_processes_is_ended_whole(queues):
    job = queues.submit("storm", {"most": 600}, owner="a")
    assert job.wait(2 * PATIENCE_S)
    assert job.state is State.FAILED
    assert "more than 256 processes" in job.error
    group = job.results[0]["pid"]

    def left():
        return [p for p in psutil.process_iter() if of_group(p.pid, group) and p.status() != psutil.STATUS_ZOMBIE]

    until(lambda: not left())
    after = queues.submit("count", {"n": 1}, owner="a")
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE


def of_group(pid, group):
    try:
        return os.getpgid(pid) == group
    except OSError:
        return False


def test_memory_that_the_system_refuses_is_told_and_the_worker_goes_on(queues):
    job = queues.submit("gulp", {}, owner="a")
    assert job.wait(PATIENCE_S)
    assert "not enough free memory for this run" in job.error
    after = queues.submit("count", {"n": 1}, owner="a")
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE


@pytest.mark.parametrize("kind", ["os.system", "../bench", "", "sleep"])
def test_only_known_kinds_run(queues, kind):
    with pytest.raises(RefusedError, match="kind must be one of"):
        queues.submit(kind, {}, owner="a")


def test_a_payload_is_bounded_and_cuda_is_refused_without_one(queues):
    with pytest.raises(RefusedError, match="longer than"):
        queues.submit("count", {"n": 1, "junk": "x" * 3_000_000}, owner="a")
    with pytest.raises(RefusedError, match="no CUDA device"):
        queues.submit("count", {"n": 1, "device": "cuda"}, owner="a")


def test_an_idle_worker_gives_its_memory_back(settings):
    queues = Queues(replace(settings, worker_idle_seconds=0), KINDS, COMMAND)
    try:
        job = queues.submit("count", {"n": 1}, owner="a")
        assert job.wait(PATIENCE_S)
        until(lambda: gone(job.results[0]["pid"]))
        assert queues.worker_pids() == []
    finally:
        queues.close()
