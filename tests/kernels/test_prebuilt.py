"""Kernels built ahead: the widest that suits is taken, and none that is damaged, foreign or somebody else's."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from attention.cli import main
from attention.kernels import compiler, cpp, libraries, prebuilt, targets
from attention.kernels.compiler import Compiler
from attention.kernels.libraries import KINDS, MATVEC, ROUNDING, Library
from tests.long import long

needs_compiler = pytest.mark.skipif(compiler.missing() is not None, reason="there is no C++ compiler")
on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or not targets.suitable(targets.features(), "x86_64"),
    reason="a processor with AVX2",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HEADSHARE_KERNELS_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("HEADSHARE_DATA_DIR", str(tmp_path / "data"))
    prebuilt.found.cache_clear()
    cpp.unavailable.cache_clear()
    yield tmp_path / "kernels"
    prebuilt.found.cache_clear()
    cpp.unavailable.cache_clear()


class Quick(Compiler):
    """Compiles a library of one function in place of the sources, because the compiler takes seconds for those."""

    def compile(self, what: str, source: Path, flags: str, to: Path, seconds: float = 0) -> None:
        text = to.with_suffix(".cpp")
        text.write_text(f'extern "C" int answer() {{ return {len(flags)}; }}')
        super().compile(what, text, "-fPIC -fopenmp", to, 120)
        text.unlink()


@pytest.fixture(scope="module")
def quick() -> Quick:
    found = compiler.here()
    assert found is not None
    return Quick(found.command, openmp=True)


def make(place: Path, quick: Quick, library: Library = KINDS, *names: str) -> list[str]:
    pairs = [(library, target) for target in targets.TARGETS if target.name in names]
    return [why for _, _, why in prebuilt.build(place, pairs, lambda machine: quick)]


@pytest.mark.parametrize(
    ("features", "machine", "widest"),
    [
        # Haswell, Skylake-X, Ice Lake, Cooper Lake, Sapphire Rapids, Zen 5 (no tiles)
        ("", "x86_64", None),
        ("v3", "x86_64", "x86-64-v3"),
        ("v3 v4", "x86_64", "x86-64-avx512"),
        ("v3 v4 avx512_vnni avx512vbmi", "x86_64", "x86-64-avx512-vnni"),
        ("v3 v4 avx512_vnni avx512_bf16", "x86_64", "x86-64-avx512-bf16"),
        ("v3 v4 avx512_vnni avx512vbmi avx512_bf16 amx_tile amx_bf16", "x86_64", "x86-64-amx"),
        ("v3 v4 avx512_vnni avx512vbmi avx512_bf16", "x86_64", "x86-64-avx512-bf16"),
        ("asimd bf16", "aarch64", "aarch64"),
        ("", "riscv64", None),
    ],
)
def test_a_processor_takes_the_widest_target_that_it_can_run(features: str, machine: str, widest: str | None) -> None:
    short = {"v3": "avx2 bmi1 bmi2 f16c fma abm movbe", "v4": "avx512f avx512bw avx512cd avx512dq avx512vl"}
    has = " ".join(short.get(word, word) for word in features.split()).split()
    suit = targets.suitable(has, machine)
    assert (suit[0].name if suit else None) == widest
    # one feature less, and the target is not taken
    for target in suit:
        for feature in target.needs:
            assert target not in targets.suitable([f for f in has if f != feature], machine)


def test_a_target_is_built_where_a_source_asks_for_it() -> None:
    def names(library: Library) -> list[str]:
        return [target.name.removeprefix("x86-64-") for target in library.targets()]

    assert names(KINDS) == ["amx", "avx512-bf16", "avx512", "v3", "aarch64"]
    assert names(MATVEC) == ["avx512-bf16", "avx512-vnni", "avx512", "v3", "aarch64"]
    assert names(libraries.decode(64)) == ["avx512-bf16", "avx512", "v3", "aarch64"]
    assert names(ROUNDING) == ["v3", "aarch64"]


def test_every_included_file_is_part_of_the_name() -> None:
    for library in libraries.LIBRARIES:
        read = {path.name for path in library.sources}
        for path in library.sources:
            lines = [line for line in path.read_text().splitlines() if line.startswith('#include "')]
            assert {line.split('"')[1].rsplit("/", 1)[-1] for line in lines} <= read


@needs_compiler
@on_x86
def test_the_command_builds_a_library_that_is_then_loaded(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["kernels", "build", "--targets", "x86-64-v3", "--libraries", "rounding"]
    assert main(command) == 0
    assert "1 libraries for 1 targets" in capsys.readouterr().out
    (path,) = place.iterdir()
    assert path.name.startswith("rounding-x86-64-v3-")
    assert (place.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o755, 0o644)
    changed = path.stat().st_mtime_ns
    assert main(command) == 0
    assert path.stat().st_mtime_ns == changed, "a whole library is not built again"
    assert cpp.unavailable(ROUNDING) is None
    assert cpp.library(ROUNDING).round_rows
    assert not (place.parent / "data").exists(), "nothing was compiled on the spot"


@needs_compiler
@on_x86
def test_a_damaged_or_foreign_library_is_skipped_for_a_narrower_one(
    place: Path, quick: Quick, caplog: pytest.LogCaptureFixture
) -> None:
    suit = [t.name for t in targets.suitable(targets.features(), "x86_64") if t in KINDS.targets()]
    make(place, quick, KINDS, *suit)
    widest = next(place.glob(f"kinds-{suit[0]}-*.so"))
    assert prebuilt.found() == {"kinds": widest}
    os.truncate(widest, 4096)
    prebuilt.found.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert widest not in prebuilt.found().values()
    assert f"{widest.name} are not used: the file is not what its name says" in caplog.text
    assert len(prebuilt.found()) == (len(suit) > 1)


@needs_compiler
@on_x86
def test_a_library_that_ends_its_process_does_not_spoil_the_next(place: Path, quick: Quick) -> None:
    """Truncated before it was named: its name has the hash of its content, and loading it raises SIGBUS."""
    make(place, quick, ROUNDING, "x86-64-v3")
    make(place, quick, MATVEC, "x86-64-v3")
    bad = next(place.glob("matvec-*.so"))
    os.truncate(bad, 5000)
    stem = bad.name.rsplit("-", 1)[0]
    bad.rename(place / f"{stem}-{prebuilt.library_store.digest(bad)}.so")
    assert set(prebuilt.found()) == {"rounding"}


@needs_compiler
@on_x86
@pytest.mark.parametrize("spoil", ["folder", "file", "link"])
def test_what_others_can_write_is_not_loaded(
    spoil: str, place: Path, quick: Quick, caplog: pytest.LogCaptureFixture
) -> None:
    make(place, quick, ROUNDING, "x86-64-v3")
    (path,) = place.iterdir()
    if spoil == "folder":
        place.chmod(0o777)
    elif spoil == "file":
        path.chmod(0o666)
    else:
        place.rename(place.with_name("elsewhere"))
        place.symlink_to(place.with_name("elsewhere"))
    with caplog.at_level(logging.WARNING):
        assert prebuilt.found() == {}
    assert "is a link" in caplog.text if spoil == "link" else "can be written by others" in caplog.text


@needs_compiler
def test_libraries_of_other_sources_are_not_taken_and_dropped_by_the_next_build(
    place: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(place, quick, ROUNDING, "x86-64-v3")
    monkeypatch.setattr(libraries, "FLAGS", f"{libraries.FLAGS} -DCHANGED")
    assert prebuilt.found() == {}
    assert prebuilt.drop_others(place, ["x86-64-v3"]) == 1
    assert list(place.iterdir()) == []


def test_a_kind_of_processor_without_a_compiler_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiler, "across", lambda machine: None)
    other = "aarch64" if targets.machine() != "aarch64" else "x86-64-v3"
    assert main(["kernels", "build", "--targets", other, "--libraries", "rounding"]) == 1
    machine = "aarch64" if other == "aarch64" else "x86_64"
    assert f"1 library not built: there is no compiler for {machine} here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--targets", "x86-64-v9"], "targets must be all, here, or of x86-64-amx"),
        (["--libraries", "decode-65"], "libraries must be of matvec"),
        (["--cxx", "/no/such/compiler"], "cxx must be a C++ compiler that works"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernels", "build", *words]) == 2
    assert message in capsys.readouterr().err
    assert not place.exists()


@needs_compiler
@long("one library, and targets by their names")
def test_all_libraries_of_this_machine_are_built_and_load(place: Path) -> None:
    names = [target.name for target in targets.TARGETS if target.machine == targets.machine()]
    pairs = prebuilt.everything(names)
    assert [why for _, _, why in prebuilt.build(place, pairs) if why] == []
    assert set(prebuilt.found()) == {library.name for library in libraries.LIBRARIES}
    for library in libraries.LIBRARIES:
        assert isinstance(cpp.library(library), ctypes.CDLL)
