"""Kept runs, on SQLite and on a real PostgreSQL: whole or not at all, and a friendly word when the database is gone."""

import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from attention.kept.store import Store, StoreError
from attention.settings import Settings
from attention.timing.runs import recorded
from tests import postgres
from tests.timing_samples import result, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    with postgres.cluster() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tmp_path):
    if request.param == "sqlite":
        return Settings(data_dir=str(tmp_path), max_stored_runs=5)
    return Settings(database_url=request.getfixturevalue("cluster").url, max_stored_runs=5)


@pytest.fixture
def store(settings):
    store = Store(settings)
    yield store
    store.close()


def test_a_kept_run_comes_back_as_it_was(store, settings):
    kept = store.save(run())
    assert len(kept.id) >= 12
    assert replace(kept, id="") == run()
    again = Store(settings)
    assert again.load(kept.id) == kept
    again.close()


def test_tokens_differ(store):
    assert len({store.save(run()).id for _ in range(4)}) == 4


@pytest.mark.parametrize("token", ["", "nothing", "../../etc/passwd", "' OR 1=1 --", "x" * 500, "\x00", "é"])
def test_unknown_and_hostile_tokens_are_refused(store, token):
    with pytest.raises(StoreError, match=r"no link to a run|not kept here"):
        store.load(token)


def test_shipped_runs_have_links_too(store):
    shipped = recorded()[0]
    assert store.load(shipped.id) == shipped


def test_the_oldest_make_room(store):
    ids = [store.save(run()).id for _ in range(7)]
    assert store.count() == 5
    assert store.load(ids[-1])
    assert store.load(ids[2])
    with pytest.raises(StoreError, match="made room"):
        store.load(ids[1])


def test_many_savers_at_once_lose_nothing(settings):
    settings = replace(settings, max_stored_runs=100)
    stores = [Store(settings), Store(settings)]
    ids: list[str] = []

    def save(which):
        ids.extend(stores[which].save(run()).id for _ in range(5))

    threads = [threading.Thread(target=save, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 20
    assert all(stores[0].load(token) for token in ids)
    for store in stores:
        store.close()


def test_a_run_that_is_too_big_is_refused(store):
    # 2,000 timings with long notes are more than the one megabyte that a download could bring back
    note = replace(result(), note="x" * 300)
    with pytest.raises(StoreError, match="at most 1,000,000 bytes"):
        store.save(run(*[note] * 2000))


def test_a_database_that_is_gone_and_comes_back(cluster):
    store = Store(Settings(database_url=cluster.url))
    kept = store.save(run())
    cluster.stop()
    try:
        with pytest.raises(StoreError, match="can't be reached") as caught:
            store.load(kept.id)
        assert "127.0.0.1" not in str(caught.value)
        with pytest.raises(StoreError, match="can't be reached"):
            store.save(run())
    finally:
        cluster.start()
    assert store.load(kept.id) == kept
    assert store.save(run()).id
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:secret@h/db", "postgresql://u:secret@[::bad"])
def test_a_wrong_address_is_told_without_quoting_it(url):
    with pytest.raises(StoreError) as caught:
        Store(Settings(database_url=url)).save(run())
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(Settings(data_dir=str(tmp_path / "file" / "sub")))
    with pytest.raises(StoreError, match="can't be reached"):
        store.save(run())
    (tmp_path / "file").unlink()
    assert store.save(run()).id, "the store recovers by itself"
    store.close()


def test_a_full_disk_keeps_earlier_runs_whole_and_later_ones_work(tmp_path):
    store = Store(Settings(data_dir=str(tmp_path)))
    first = store.save(run())
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # no file may grow beyond its present size: a writer meets the same on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
    try:
        with pytest.raises(StoreError, match="can't be reached"):
            store.save(run(*[result()] * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert store.load(first.id) == first
    after = store.save(run())
    assert store.load(after.id) == after
    store.close()


SAVER = """
import sys
from attention.settings import Settings
from attention.kept.store import Store
from tests.timing_samples import result, run
store = Store(Settings(data_dir=sys.argv[1]))
while True:
    print(store.save(run(*[result()] * 200)).id, flush=True)
"""


def test_a_killed_server_leaves_whole_runs(tmp_path):
    command = [sys.executable, "-c", SAVER, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as saver:
        assert saver.stdout is not None
        ids = [saver.stdout.readline().decode().strip() for _ in range(3)]
        saver.kill()
        ids += saver.stdout.read().decode().splitlines()
    store = Store(Settings(data_dir=str(tmp_path)))
    # the last line may be cut off; every token that was printed in full belongs to a whole run
    whole = [token for token in ids if len(token) == 16]
    assert len(whole) >= 3
    assert all(len(store.load(token).results) == 200 for token in whole)
    store.close()
