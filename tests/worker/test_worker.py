"""The worker process: results, stop, crashes, what it keeps ready and what it leaves (tests/worker_handlers.py)."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from attention.timing.device_queue import turn
from attention.timing.speed import Calibration
from attention.worker.child import HANDLERS
from attention.worker.client import Queues, State
from tests.worker.shared import COMMAND, HERE, KINDS, PATIENCE_S, gone, until

STOP_S = 2.0


def test_results_stream_back_one_by_one(queues):
    job = queues.submit("count", {"n": 5}, owner="a")
    assert job.wait(PATIENCE_S)
    assert [item["i"] for item in job.results] == [0, 1, 2, 3, 4]
    assert job.state is State.DONE
    assert (job.summary, job.progress, job.progress_text, job.error) == ({"counted": 5}, 1.0, "5 of 5", None)


def test_the_worker_is_another_process_and_is_reused(queues):
    pids = set()
    for _ in range(3):
        job = queues.submit("count", {"n": 1}, owner="a")
        assert job.wait(PATIENCE_S)
        pids.add(job.results[0]["pid"])
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_stop_is_heard_by_a_run_that_listens_and_the_worker_is_kept(queues):
    job = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
    until(lambda: len(job.results) > 3)
    asked = time.monotonic()
    job.stop()
    assert job.wait(STOP_S)
    assert time.monotonic() - asked < STOP_S
    assert job.state is State.STOPPED
    assert job.summary == {"counted": len(job.results)}
    assert queues.worker_pids() == [job.results[0]["pid"]]


def test_stop_ends_a_run_that_does_not_listen_within_two_seconds(queues):
    job = queues.submit("hang", {}, owner="a")
    until(lambda: job.results)
    job.stop()
    assert job.wait(STOP_S)
    assert job.state is State.STOPPED
    assert gone(job.results[0]["pid"])
    after = queues.submit("count", {"n": 2}, owner="a")
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE


def test_a_killed_worker_is_reported_and_replaced_and_results_are_kept(queues):
    job = queues.submit("count", {"n": 10_000, "pause_s": 0.01}, owner="a")
    until(lambda: len(job.results) > 2)
    os.kill(job.results[0]["pid"], signal.SIGKILL)
    assert job.wait(PATIENCE_S)
    assert job.state is State.FAILED
    assert "killed (SIGKILL)" in job.error
    assert len(job.results) > 2
    after = queues.submit("count", {"n": 2}, owner="a")
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE
    assert after.results[0]["pid"] != job.results[0]["pid"]


def test_a_worker_killed_while_idle_is_replaced_unseen(queues):
    first = queues.submit("count", {"n": 1}, owner="a")
    assert first.wait(PATIENCE_S)
    os.kill(first.results[0]["pid"], signal.SIGKILL)
    until(lambda: not queues.worker_pids())
    after = queues.submit("count", {"n": 1}, owner="a")
    assert after.wait(PATIENCE_S)
    assert after.state is State.DONE


def test_a_handlers_mistake_does_not_leak_and_results_are_kept(queues, capfd):
    job = queues.submit("crash", {}, owner="a")
    assert job.wait(PATIENCE_S)
    assert job.state is State.FAILED
    assert job.error == "The run failed in the worker (KeyError). The server's log has the details."
    assert job.results == [{"before": True}]
    assert "/etc/secret" in capfd.readouterr().err


def test_a_refusal_of_the_handler_reaches_the_visitor(queues):
    job = queues.submit("refuse", {"n_heads": 0}, owner="a")
    assert job.wait(PATIENCE_S)
    assert job.error == "n_heads must be positive, got 0"


def test_fifty_runs_leave_no_process_thread_or_memory_behind(queues):
    me = psutil.Process()

    def run(times):
        for _ in range(times):
            job = queues.submit("count", {"n": 20}, owner="a")
            assert job.wait(PATIENCE_S)
            assert job.state is State.DONE
        worker = psutil.Process(queues.worker_pids()[0])
        return len(me.children(recursive=True)), me.num_threads(), me.memory_info().rss, worker.memory_info().rss

    run(5)
    before = run(1)
    after = run(50)
    assert after[:2] == before[:2]
    # the allocator may take a page or two; if each of 50 runs kept something, it would be more
    assert after[2] - before[2] < 8 * 2**20
    assert after[3] - before[3] < 8 * 2**20


SERVER = """
import sys, time
from attention.settings import Settings
from attention.worker.client import Queues
queues = Queues(Settings(lock_dir=sys.argv[1], use_gpu=False), ("hang",), (sys.executable, sys.argv[2]))
job = queues.submit("hang", {}, owner="a")
while not job.results:
    time.sleep(0.02)
print(job.results[0]["pid"], flush=True)
time.sleep(0 if sys.argv[3] == "exit" else 60)
if sys.argv[3] == "exit":
    queues.close()
"""


@pytest.mark.parametrize("how", ["kill -9", "terminate", "exit"])
def test_a_servers_end_leaves_no_worker(tmp_path, how):
    command = [sys.executable, "-c", SERVER, str(tmp_path), COMMAND[1], how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE.parent) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert not gone(pid)
        if how == "kill -9":
            server.kill()
        elif how == "terminate":
            server.terminate()
        server.wait(PATIENCE_S)
    until(lambda: gone(pid), 5.0)


def test_a_worker_whose_parent_is_gone_before_it_started_ends(tmp_path):
    parent_that_is_not_ours = "1" if os.getpid() != 1 else "2"
    command = [*COMMAND, parent_that_is_not_ours, "0"]
    worker = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, timeout=PATIENCE_S, check=False)
    assert worker.returncode == 1


def test_kinds_are_the_modules_of_the_jobs_folder():
    files = {path.stem for path in (HERE.parent / "attention" / "jobs").glob("*.py")} - {"__init__"}
    assert {kind: f"attention.jobs.{kind}" for kind in files} == HANDLERS


def test_a_warm_worker_has_calibrated_in_its_turn(settings, monkeypatch):
    """Whoever presses Run first finds the device measured already. It is not measured while somebody's run goes on."""
    monkeypatch.setenv("HEADSHARE_LOCK_DIR", settings.lock_dir)
    with turn("cpu", settings.lock_dir):
        queues = Queues(settings)
        queues.warm()
        until(lambda: queues.worker_pids(), 60)
        (pid,) = queues.worker_pids()
        # its libraries are loaded all the same
        until(lambda: psutil.Process(pid).memory_info().rss > 150 * 2**20, 60)
        shared = Path(settings.lock_dir) / "cpu.calibration.json"
        assert not shared.exists()
    try:
        until(shared.exists, 60)
        queues.warm()
        job = queues.submit("calibrate", {"device": "cpu"}, owner="a")
        assert job.wait(60)
        assert queues.worker_pids() == [pid]
        handed_on = Calibration.from_json(json.loads(shared.read_text()))
        assert job.summary is not None
        assert Calibration.from_json(job.summary["calibration"]) == handed_on
    finally:
        queues.close()


def test_what_runs_need_is_made_ready_once_for_each_worker(settings):
    queues = Queues(settings, KINDS, COMMAND)
    try:
        job = queues.prepare("ready")
        assert job is not None
        assert job.wait(PATIENCE_S)
        (pid,) = queues.worker_pids()
        assert job.worker_pid == pid
        assert queues.prepare("ready") is job
        os.kill(pid, signal.SIGKILL)
        until(lambda: not queues.worker_pids())
        again = queues.prepare("ready")
        assert again is not None
        assert again is not job
        assert again.wait(PATIENCE_S)
        assert again.worker_pid != pid
    finally:
        queues.close()


def test_what_is_made_ready_is_told_and_comes_before_the_estimate(queues):
    job = queues.submit("prepared", {}, owner="a")
    until(lambda: job.progress_text == "reading the weights")
    assert job.wait(PATIENCE_S)
    assert job.summary == {"prepared": True}


def test_the_worker_steps_back_once_somebody_has_a_run(settings, monkeypatch):
    """A first result waits for the libraries and for the measured device: both are there as soon as possible."""
    monkeypatch.setenv("HEADSHARE_LOCK_DIR", settings.lock_dir)
    queues = Queues(replace(settings, worker_nice=3))
    own = psutil.Process().nice()
    try:
        queues.warm()
        until((Path(settings.lock_dir) / "cpu.calibration.json").exists, 60)
        (worker,) = map(psutil.Process, queues.worker_pids())
        assert worker.nice() == own
        case = {"implementation": "folded_matmul", "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "context": 16}
        assert queues.submit("bench", {"cases": [case], "seconds_per_case": 0.05}, owner="a").wait(60)
        assert worker.nice() == own + 3
    finally:
        queues.close()
