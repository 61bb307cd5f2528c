"""Compiled libraries that are kept: none that somebody else wrote and none that is damaged is ever loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attention.kernels import library_store
from attention.kernels.compiler import missing
from attention.timing.device_queue import lock_folder

pytestmark = pytest.mark.skipif(missing() is not None, reason="there is no C++ compiler")
SOURCE = 'extern "C" int answer() { return ANSWER; }'


def compiler(answer: int, made: list[Path]) -> Callable[[Path], None]:
    def compile_to(path: Path) -> None:
        made.append(path)
        command = ["c++", "-shared", "-fPIC", "-x", "c++", f"-DANSWER={answer}", "-", "-o", str(path)]
        subprocess.run(command, input=SOURCE.encode(), check=True)

    return compile_to


def digest(path: Path) -> str:
    """The hash of a library's content, as its name has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def answer(path: Path) -> int:
    return int(ctypes.CDLL(str(path)).answer())


@pytest.fixture
def made() -> list[Path]:
    return []


def test_a_library_is_compiled_once_and_named_by_its_content(tmp_path: Path, made: list[Path]) -> None:
    first = library_store.kept(tmp_path / "native", "one", compiler(17, made))
    assert answer(first) == 17
    assert first.name == f"one-{digest(first)}.so"
    assert library_store.kept(tmp_path / "native", "one", compiler(17, made)) == first
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "native").iterdir()] == [first.name]
    assert (tmp_path / "native").stat().st_mode & 0o777 == 0o700
    assert first.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["one.so", "one-{}.so", "one-0123456789abcdef0123456789abcdef.so"])
def test_a_planted_library_is_not_loaded(name: str, tmp_path: Path, made: list[Path]) -> None:
    """The name can be guessed, and whoever plants a library may even put its right hash into the name."""
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    compiler(666, [])(folder / "planted")
    planted = folder / name.format(digest(folder / "planted"))
    (folder / "planted").rename(planted)
    planted.chmod(0o666)
    assert answer(library_store.kept(folder, "one", compiler(17, made))) == 17
    assert len(made) == 1


def test_other_content_under_a_kept_name_is_not_loaded(tmp_path: Path, made: list[Path]) -> None:
    """Owner, permissions and name are right, and it would load: only its content gives it away."""
    path = library_store.kept(tmp_path / "native", "one", compiler(17, made))
    compiler(666, [])(tmp_path / "planted")
    path.write_bytes((tmp_path / "planted").read_bytes())
    assert path.stat().st_mode & 0o777 == 0o600
    assert answer(library_store.kept(tmp_path / "native", "one", compiler(17, made))) == 17
    assert len(made) == 2


@pytest.mark.parametrize("spoil", ["others write", "a link", "another's"])
def test_a_folder_that_is_not_ours_alone_is_refused(spoil: str, tmp_path: Path, made: list[Path]) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    if spoil == "others write":
        folder.chmod(0o777)
    elif spoil == "a link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif os.getuid():
        pytest.skip("only root can give a folder away")
    else:
        os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionError, match=r"native (can be written by others|is a link|belongs to another user)"):
        library_store.kept(folder, "one", compiler(17, made))
    assert made == []
    if spoil != "a link":
        with pytest.raises(PermissionError):
            lock_folder(str(folder))


@pytest.mark.parametrize("size", [0, 1, 700, 4096, 9000])
def test_a_damaged_library_is_made_again(size: int, tmp_path: Path, made: list[Path]) -> None:
    """Loading a truncated one here would end this process with SIGBUS."""
    path = library_store.kept(tmp_path / "native", "one", compiler(17, made))
    os.truncate(path, size)
    again = library_store.kept(tmp_path / "native", "one", compiler(17, made))
    assert len(made) == 2
    assert answer(again) == 17


def test_a_library_that_ends_its_process_is_not_loaded_here(tmp_path: Path, made: list[Path]) -> None:
    """Its name has the hash of what it holds, but it was truncated before it was given that name."""
    folder = tmp_path / "native"
    whole = library_store.kept(folder, "one", compiler(17, made))
    os.truncate(whole, 5000)
    whole.rename(folder / f"one-{digest(whole)}.so")
    assert answer(library_store.kept(folder, "one", compiler(17, made))) == 17
    assert len(made) == 2


def test_a_compiler_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        library_store.kept(tmp_path / "native", "one", fail)
    assert list((tmp_path / "native").iterdir()) == []


def test_what_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    def no_library(path: Path) -> None:
        path.write_bytes(b"no library")

    with pytest.raises(RuntimeError, match="does not load"):
        library_store.kept(tmp_path / "native", "one", no_library)
