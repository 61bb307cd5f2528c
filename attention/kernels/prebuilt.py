"""Native libraries that were built ahead, for several kinds of processor: where they are, and which ones suit this one.

A machine that serves the demo often has no compiler, and on one that has, the first run need not wait for it. The
folder is `prebuilt/` beside this file, or HEADSHARE_KERNELS_DIR. Its owner and permissions are checked as those of the
data folder are. A file is named by library, target, hash of what it is made from, and hash of its content.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from attention import settings
from attention.kernels import compiler, library_store, targets
from attention.kernels.compiler import Compiler
from attention.kernels.libraries import LIBRARIES, Library
from attention.kernels.targets import Target
from attention.private_folder import private_folder, why_not_ours

log = logging.getLogger(__name__)

PLACE = Path(__file__).with_name("prebuilt")


def folder() -> Path:
    """The folder of the libraries that were built ahead. It need not exist."""
    named = settings.load().kernels_dir
    return Path(named) if named else PLACE


@cache
def found() -> dict[str, Path]:
    """Name of a library -> its file for the widest target that suits this processor. What is damaged, or what another
    user can have written, is left out, and the log says so."""
    place = folder()
    try:
        if (why := why_not_ours(place)) is not None:
            log.warning("kernels that were built ahead are not used: the folder %s %s", place.name, why)
            return {}
    except FileNotFoundError:
        return {}
    suit = targets.suitable(targets.features(), targets.machine())
    offered = [
        (library.name, path)
        for library in LIBRARIES
        for target in suit
        if target in library.targets()
        for path in sorted(place.glob(f"{library.stem(target)}-*.so"))
    ]
    unusable = library_store.unusable([path for _, path in offered])
    for path, why in unusable.items():
        log.warning("the kernels built ahead in %s are not used: the file %s", path.name, why)
    taken: dict[str, Path] = {}
    for name, path in offered:
        if path not in unusable:
            taken.setdefault(name, path)
    return taken


def here() -> tuple[tuple[Library, Target], ...]:
    """Each library with the target that this processor would take."""
    suit = targets.suitable(targets.features(), targets.machine())
    widest = ((library, next((t for t in suit if t in library.targets()), None)) for library in LIBRARIES)
    return tuple((library, target) for library, target in widest if target is not None)


def everything(names: Iterable[str]) -> tuple[tuple[Library, Target], ...]:
    """Each library with each of the named targets for which its sources give another library."""
    wanted = set(names)
    return tuple((library, target) for library in LIBRARIES for target in library.targets() if target.name in wanted)


def build(
    place: Path,
    pairs: Iterable[tuple[Library, Target]],
    compilers: Callable[[str], Compiler | None] = compiler.for_machine,
    at_once: int | None = None,
) -> Iterator[tuple[Library, Target, str]]:
    """Build libraries into a folder; those that are there already and whole are left as they are.

    Args:
        compilers: kind of processor -> its compiler.
        at_once: compilers that run at the same time; by default as many as there are cores.

    Yields:
        (library, target, "" or why it was not built), in order.

    Raises:
        OSError: the folder cannot be written, or other users may write to it.
    """
    # other users read it: in an image it belongs to root, and the server runs as somebody else
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    private_folder(place)
    pairs = tuple(pairs)
    by_machine = {machine: compilers(machine) for machine in dict.fromkeys(t.machine for _, t in pairs)}

    def one(pair: tuple[Library, Target]) -> tuple[Library, Target, str]:
        library, target = pair
        found = by_machine[target.machine]
        if found is None:
            return library, target, f"there is no compiler for {target.machine} here"
        if not found.openmp:
            return library, target, f"{found.command[0]} has no OpenMP that goes with torch's"

        def compile_to(path: Path) -> None:
            found.compile(library.what, library.sources[0], library.flags(target), path, compiler.BUILD_SECONDS)

        runs_here = target.machine == targets.machine()
        try:
            library_store.kept(place, library.stem(target), compile_to, mode=0o644, trial=runs_here)
        except RuntimeError as error:
            return library, target, str(error)
        return library, target, ""

    with ThreadPoolExecutor(at_once or os.cpu_count() or 1) as pool:
        yield from pool.map(one, pairs)


def drop_others(place: Path, names: Iterable[str]) -> int:
    """Remove from the folder what this version of the sources does not use any more; the number of files.

    Args:
        names: targets whose files are looked at.
    """
    current = tuple(f"{library.stem(target)}-" for library, target in everything(names))
    ours = tuple(f"{library.name}-{name}-" for library in LIBRARIES for name in names)
    old = [p for p in place.glob("*.so") if p.name.startswith(ours) and not p.name.startswith(current)]
    for path in old:
        path.unlink()
    return len(old)
