"""``python -m attention runs``: a kept run leaves one machine as a file and arrives on another."""

import pytest

from attention import cli
from attention.kept import store
from attention.kept.store import Store
from attention.settings import Settings
from attention.timing import runs
from tests.timing_samples import run


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    own = Store(Settings(data_dir=str(tmp_path / "store")))
    monkeypatch.setattr(store, "process_store", own)
    yield own
    own.close()


def test_a_run_travels_as_a_file(own_store, tmp_path, capsys):
    kept = own_store.save(run())
    assert cli.main(["runs", "show", kept.id]) == 0
    file = tmp_path / "run.json"
    file.write_text(capsys.readouterr().out)
    assert runs.parse(file.read_bytes()) == run()
    assert cli.main(["runs", "add", str(file)]) == 0
    link = capsys.readouterr().out.strip()
    assert link.startswith("/timings?run=")
    assert own_store.load(link.partition("=")[2]).source == "uploaded"


def test_a_recorded_run_says_so(own_store, capsys):
    assert cli.main(["runs", "show", own_store.save(run()).id, "--recorded"]) == 0
    assert runs.parse(capsys.readouterr().out).source == "recorded"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"{}"])
def test_bad_files_and_tokens_end_with_one_line(own_store, tmp_path, capsys, content):
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_bytes(content)
    assert cli.main(["runs", "add", str(file)]) == 2
    assert cli.main(["runs", "show", "AAAAAAAAAAAA"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("python -m attention runs: ") for line in lines)
