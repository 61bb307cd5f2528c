"""Asks llama.cpp itself, on a CPU and without weights, for the cache sizes it prints for a file of the model's shape.

llama.cpp runs in its own process through the wheel ``xllamacpp`` (requirements-engines.txt). It sizes its cache once
before it allocates anything. Its output is read up to that point, and then the process is ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from attention.engines import shape_gguf
from attention.engines.installed import version_of
from attention.engines.llama_cpp import Pool, Settings, mib, pools
from attention.engines.log import Log, read
from attention.spec import ModelSpec

SECONDS = 60.0
MOST_LINES = 100_000
_CHILD = """
import os, sys
import xllamacpp as x
path, n_ctx, n_seq, n_ubatch, k, v = sys.argv[1:]
p = x.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.n_ubatch = path, int(n_ctx), int(n_seq), int(n_ubatch)
p.verbosity, p.warmup, p.kv_unified, p.swa_full = 5, False, False, False
p.cache_type_k = getattr(x.ggml_type, "GGML_TYPE_" + k.upper())
p.cache_type_v = getattr(x.ggml_type, "GGML_TYPE_" + v.upper())
x.Server(p)
os._exit(0)
"""


class Answer(NamedTuple):
    """One pool: what llama.cpp printed and what is computed; None where one side has no such pool.

    Attributes:
        cells: cells of one stream; n_layers: layers of the pool.
        printed, computed: the pool's MiB in total, of K and of V, in one line.
    """

    name: str
    cells: int
    n_layers: int
    printed: str | None
    computed: str | None

    @property
    def equal(self) -> bool:
        return self.printed is not None and self.printed == self.computed


def asked_version() -> str:
    """The version of the installed wheel ``xllamacpp``.

    Raises:
        ValueError: the wheel is not installed.
    """
    return version_of("xllamacpp", "-r requirements-engines.txt")


def ask(spec: ModelSpec, *asked: Settings) -> tuple[tuple[Answer, ...], ...]:
    """llama.cpp's pools beside the computed ones, for each of the settings.

    Raises:
        ValueError: the wheel is not installed, ``shape_gguf`` cannot write the shape, or llama.cpp refuses it.
    """
    asked_version()
    expected = [pools(spec, settings) for settings in asked]
    with tempfile.TemporaryDirectory(prefix="headshare-shape-") as folder:
        path = Path(folder) / "shape.gguf"
        shape_gguf.write(spec, path)
        logs = [read(_said(path, settings)) for settings in asked]
    return tuple(compared(log, found) for log, found in zip(logs, expected, strict=True))


def compared(log: Log, expected: tuple[Pool, ...]) -> tuple[Answer, ...]:
    """The pools in a log beside the computed ones, matched by cells and layers."""
    said: dict[tuple[int, int], str] = {}
    for values in log.seen("kv"):
        total, cells, layers, _, _, _, k, _, v = (value or "0" for value in values)
        said.setdefault((int(cells), int(layers)), f"{total} MiB: K {k}, V {v}")
    ours = {
        (pool.cells, pool.n_layers): f"{mib(pool.total_bytes)} MiB: K {mib(pool.k_bytes)}, V {mib(pool.v_bytes)}"
        for pool in expected
    }
    names = {(pool.cells, pool.n_layers): pool.name for pool in expected}
    return tuple(
        Answer(names.get(key, "not computed"), *key, said.get(key), ours.get(key))
        for key in dict.fromkeys([*ours, *said])
    )


def _said(path: Path, settings: Settings) -> bytes:
    """The output of llama.cpp until it has sized its cache once.

    Raises:
        ValueError: it ended or ran out of time before that.
    """
    said = (settings.n_ctx, settings.n_seq_max, settings.n_ubatch, settings.type_k, settings.type_v)
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), *map(str, said)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        timer = threading.Timer(SECONDS, child.kill)
        timer.start()
        lines, sized = [], False
        try:
            assert child.stderr is not None
            for line, _ in zip(child.stderr, range(MOST_LINES), strict=False):
                sized = sized or b"llama_kv_cache: size" in line
                if sized and b"llama_kv_cache" not in line:
                    break
                lines.append(line)
        finally:
            child.kill()
            timer.cancel()
    if not sized:
        why = next((line.decode(errors="replace") for line in lines if b" E " in line), "it said nothing of its cache")
        raise ValueError(f"llama.cpp did not size a cache of this shape: {why.strip()[:200]}")
    return b"".join(lines)
