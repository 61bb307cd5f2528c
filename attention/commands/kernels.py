"""``python -m attention kernels build``: compile the native kernels ahead, for this processor or for several kinds."""

from __future__ import annotations

import argparse
from pathlib import Path

from attention.errors import shown
from attention.kernels import compiler, prebuilt, targets

HELP = "build the native kernels ahead, so that a server needs no compiler; or list those that this processor takes"
_NAMES = tuple(target.name for target in targets.TARGETS)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["build", "list"])
    parser.add_argument(
        "--targets",
        default="all",
        metavar="TARGET[,TARGET…]",
        help=f"all (default), here (what this processor takes), or of {', '.join(_NAMES)}",
    )
    parser.add_argument("--out", type=Path, help="folder (default: HEADSHARE_KERNELS_DIR, or the program's own)")
    parser.add_argument("--libraries", default="", metavar="NAME[,NAME…]", help="only these, such as decode-128")
    parser.add_argument(
        "--cxx", default="", metavar="COMMAND", help="the compiler for all targets (default: g++, or TARGET's own g++)"
    )


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        return _list()
    pairs, optional = _pairs(args.targets, args.libraries)
    place = args.out or prebuilt.folder()
    chosen = compiler.tried(tuple(args.cxx.split()), native=False) if args.cxx else None
    if args.cxx and chosen is None:
        raise ValueError(f"cxx must be a C++ compiler that works, got {shown(args.cxx)}")
    failed: dict[tuple[str, str], int] = {}
    built: dict[str, int] = {}
    for library, target, why in prebuilt.build(
        place, pairs, compiler.for_machine if chosen is None else lambda machine: chosen
    ):
        if why:
            failed[target.name, why] = failed.get((target.name, why), 0) + 1
        else:
            built[target.name] = built.get(target.name, 0) + 1
            print(f"{target.name:20} {library.name}", flush=True)
    dropped = prebuilt.drop_others(place, built)
    for (target_name, why), count in failed.items():
        print(f"{target_name:20} {count} {'library' if count == 1 else 'libraries'} not built: {why}")
    print(
        f"{sum(built.values())} libraries for {len(built)} targets in {place}"
        + (f", {dropped} old ones dropped" * bool(dropped))
    )
    # a kind of processor without a compiler is no fault where it was not asked for by name
    return 0 if built and (optional or not failed) else 1


def _pairs(named: str, libraries: str) -> tuple[tuple[tuple[prebuilt.Library, targets.Target], ...], bool]:
    """What to build, and whether a target may be left out."""
    if named == "here":
        pairs = prebuilt.here()
        if not pairs:
            raise ValueError(f"no target suits this processor ({targets.machine()}): they are {', '.join(_NAMES)}")
    else:
        names = _NAMES if named == "all" else tuple(named.split(","))
        for name in names:
            if name not in _NAMES:
                raise ValueError(f"targets must be all, here, or of {', '.join(_NAMES)}, got {shown(name)}")
        pairs = prebuilt.everything(names)
    if libraries:
        known = [library.name for library in prebuilt.LIBRARIES]
        for name in libraries.split(","):
            if name not in known:
                raise ValueError(f"libraries must be of {', '.join(known)}, got {shown(name)}")
        pairs = tuple((library, target) for library, target in pairs if library.name in libraries.split(","))
    return pairs, named == "all"


def _list() -> int:
    found = prebuilt.found()
    for library in prebuilt.LIBRARIES:
        path = found.get(library.name)
        print(f"{library.name:14} {path or 'not built ahead: ' + (compiler.missing() or 'compiled when first used')}")
    return 0
