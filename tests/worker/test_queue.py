"""Which run comes when: places in the queue, turns of clients and of processes, and how many runs may wait."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from attention.timing.device_queue import Ticket, Turn, in_turn
from attention.worker.client import Limits, Queues, RefusedError, State
from tests.worker.shared import COMMAND, HERE, KINDS, PATIENCE_S, until


def test_first_come_first_served_with_the_place_in_the_queue(queues):
    running = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
    second = queues.submit("count", {"n": 1}, owner="b")
    third = queues.submit("count", {"n": 1}, owner="c")
    until(lambda: running.state is State.RUNNING)
    assert (running.position, second.position, third.position) == (0, 1, 2)
    running.stop()
    assert third.wait(PATIENCE_S)
    assert second.state is third.state is State.DONE
    assert second.ended_at <= third.started_at
    assert (second.position, third.position) == (0, 0)


def test_clients_take_turns_however_many_runs_one_has(settings):
    queues = Queues(replace(settings, session_jobs=9, client_jobs=9), KINDS, COMMAND)
    try:
        running = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="s", client="stranger")
        many = [queues.submit("count", {"n": 1}, owner="s", client="stranger") for _ in range(3)]
        honest = [queues.submit("count", {"n": 1}, owner=name, client=name) for name in ("a", "b")]
        until(lambda: running.state is State.RUNNING)
        assert [job.position for job in (*honest, *many)] == [1, 2, 3, 4, 5]
        running.stop()
        jobs = (*honest, *many)
        assert all(job.wait(PATIENCE_S) for job in jobs)
        assert sorted(jobs, key=lambda job: job.started_at or 0.0) == list(jobs)
    finally:
        queues.close()


def test_who_waits_is_not_passed_for_ever_by_clients_that_come_again():
    def ticket(arrived, client, running=False):
        return Ticket(arrived, 1, 1, f"{arrived:x}", client, 0, 0, running)

    waiting = [ticket(1, "a", running=True), ticket(2, "a"), ticket(3, "a"), ticket(9, "new"), ticket(12, "b")]
    served = {"b": 11}
    order = [(t.client, t.arrived_ns) for t in in_turn(waiting, served)]
    assert order == [("a", 1), ("new", 9), ("b", 12), ("a", 2), ("a", 3)]
    # once a's run has ended, its next one counts from that time, and later arrivals come after it
    assert [t.client for t in in_turn([ticket(2, "a"), ticket(15, "c"), ticket(8, "b")], {"a": 10, "b": 13})] == list(
        "abc"
    )


def test_limits_of_a_client_over_its_sessions(settings):
    queues = Queues(replace(settings, client_jobs=2), KINDS, COMMAND)
    try:
        for owner in ("tab 1", "tab 2"):
            queues.submit("hang", {}, owner=owner, client="203.0.113.7")
        with pytest.raises(RefusedError, match="your network address has 2 runs waiting or running already"):
            queues.submit("count", {"n": 1}, owner="tab 3", client="203.0.113.7")
        queues.submit("hang", {}, owner="tab 4", client="203.0.113.8")
    finally:
        queues.close()


def test_who_waits_is_told_how_long(queues):
    first = queues.submit("count", {"n": 3}, owner="a")
    assert first.wait(PATIENCE_S)
    # another client: the place of the first one counts from the end of its run, which is noted about now
    running = queues.submit("hang", {}, owner="z", limits=Limits(seconds=100))
    known = queues.submit("count", {"n": 1}, owner="b", limits=Limits(seconds=10))
    last = queues.submit("count", {"n": 1}, owner="c")
    until(lambda: running.results)
    expected, most = last.wait_s()
    assert expected is None  # no run of the kind that hangs has ended yet
    assert 10 < most <= 110
    running.stop()
    assert known.wait(PATIENCE_S)
    assert last.wait(PATIENCE_S)
    assert last.wait_s() == (0.0, 0.0)
    before = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="d")
    after = queues.submit("count", {"n": 1}, owner="e")
    until(lambda: before.state is State.RUNNING)
    assert 1.0 <= after.wait_s()[0] < PATIENCE_S


def test_a_run_stopped_in_the_queue_never_starts(queues):
    running = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
    waiting = queues.submit("count", {"n": 1}, owner="b")
    third = queues.submit("count", {"n": 1}, owner="c")
    waiting.stop()
    assert waiting.state is State.STOPPED
    assert third.position == 1
    running.stop()
    assert third.wait(PATIENCE_S)
    assert waiting.results == []
    assert waiting.started_at is None


def test_two_app_processes_share_the_device_in_order(settings):
    one, two = Queues(settings, KINDS, COMMAND), Queues(settings, KINDS, COMMAND)
    try:
        first = one.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
        until(lambda: first.results)
        second = two.submit("count", {"n": 1}, owner="b")
        time.sleep(0.2)
        assert (second.state, second.position) == (State.QUEUED, 1)
        first.stop()
        assert second.wait(PATIENCE_S)
        assert second.started_at is not None
        assert first.ended_at is not None
        assert second.started_at >= first.ended_at
    finally:
        one.close()
        two.close()


def test_a_dead_process_does_not_hold_the_queue(tmp_path):
    folder = str(tmp_path / "locks")
    holder = (
        "import sys, time; from attention.timing.device_queue import Turn\n"
        f"turn = Turn('cpu', {folder!r}); assert turn.take(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, cwd=HERE.parent)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        mine = Turn("cpu", folder)
        assert mine.position == 1
        assert not mine.take()
        process.kill()
    assert mine.position == 0
    assert mine.take()
    mine.leave()
    assert Turn.waiting("cpu", folder) == []


def test_limits_of_a_visitor_and_of_the_queue(settings):
    queues = Queues(replace(settings, session_jobs=2, max_queue=3), KINDS, COMMAND)
    try:
        jobs = [queues.submit("hang", {}, owner="a") for _ in range(2)]
        with pytest.raises(RefusedError, match="you have 2 runs waiting or running already"):
            queues.submit("count", {"n": 1}, owner="a")
        jobs.append(queues.submit("hang", {}, owner="b"))
        with pytest.raises(RefusedError, match="3 runs are waiting on this machine already"):
            queues.submit("count", {"n": 1}, owner="c")
        jobs[1].stop()
        jobs.append(queues.submit("hang", {}, owner="a"))
    finally:
        queues.close()
    assert all(job.done for job in jobs)
