"""The recorded answers of llama.cpp for every model of the catalogue, beside what is computed.

``python -m attention verify --engine llama.cpp --record`` fills ``data/engines.json``; the page and the tests read it.
The answers of vLLM have the same form (``asked_vllm``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from attention.catalog import published
from attention.engines import ask_llama_cpp
from attention.engines.llama_cpp import Settings, pools
from attention.engines.rules import conv_kernel

FILE = Path(__file__).parents[1] / "data" / "engines.json"
ASKED = ((8000, "f16"), (32768, "f16"), (8000, "q8_0"))
"""(n_ctx, type of K and V). 8,000 is not a multiple of the padding of cells."""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer for one model.

    Attributes:
        context: tokens; kind: type or format of the cache, in the engine's words.
        printed, computed: the engine's answer and the computed one. For llama.cpp: MiB of every pool with its cells and
            layers, as llama.cpp writes them. For vLLM: blocks, groups and tokens, see ``ask_vllm.said``.
        reason: why there is no answer, else None.
    """

    model: str
    context: int
    kind: str
    printed: str | None
    computed: str | None
    reason: str | None

    @property
    def equal(self) -> bool:
        return self.printed is not None and self.printed == self.computed


@dataclass(frozen=True)
class Results:
    """The file; `about` states the version of the engine and the date."""

    about: dict[str, str]
    rows: tuple[Row, ...]


@lru_cache(maxsize=2)
def load(path: Path = FILE) -> Results:
    """Read the file.

    Raises:
        FileNotFoundError: it was never written.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = (Row(**{"computed": row["printed"], **row}) for row in data["rows"])
    return Results(data["about"], tuple(rows))


def write(path: Path, about: dict[str, str], rows: list[Row]) -> None:
    """Write the rows, one per line. `computed` is written only where it differs from `printed`."""
    kept = []
    for row in rows:
        values = asdict(row)
        if row.printed == row.computed:
            del values["computed"]
        kept.append("  " + json.dumps(values, ensure_ascii=False))
    lines = ",\n".join(kept)
    path.write_text(f'{{\n "about": {json.dumps(about)},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def rows_of(name: str, spec: Any, kernel: int | None) -> list[Row]:
    """The rows of one model. Where it cannot be asked, a row has the reason."""
    rows, asked = [], []
    for n, kind in ASKED:
        settings = Settings(n, type_k=kind, type_v=kind, conv_kernel=kernel)
        try:
            pools(spec, settings)
        except ValueError as error:
            rows.append(Row(name, n, kind, None, None, str(error)))
        else:
            asked.append(settings)
    try:
        answers = ask_llama_cpp.ask(spec, *asked) if asked else ()
    except ValueError as error:
        return [*rows, *(Row(name, some.n_ctx, some.type_k, None, None, str(error)) for some in asked)]
    return [
        *(
            Row(name, some.n_ctx, some.type_k, in_words(answer, "printed"), in_words(answer, "computed"), None)
            for some, answer in zip(asked, answers, strict=True)
        ),
        *rows,
    ]


def in_words(answer: tuple[ask_llama_cpp.Answer, ...], side: str) -> str:
    """An answer's pools in one line, as the record keeps them; `side` is "printed" or "computed"."""
    parts = [f"{pool.cells} cells × {pool.n_layers} layers {getattr(pool, side)}" for pool in answer]
    return "; ".join(parts)


def record(progress: Callable[[str], None], path: Path = FILE) -> list[Row]:
    """Ask llama.cpp for every model of the catalogue, and write the file. Models with equal layers are asked once.

    Raises:
        ValueError: the wheel is not installed.
    """
    about = {"llama.cpp": f"xllamacpp {ask_llama_cpp.asked_version()}", "date": datetime.now(UTC).date().isoformat()}
    known: dict[Any, list[Row]] = {}
    rows: list[Row] = []
    for row in published.models():
        if row.spec is None:
            continue
        if row.spec.layers not in known:
            known[row.spec.layers] = rows_of(row.id, row.spec, conv_kernel(row.config))
        rows += [Row(**{**asdict(one), "model": row.id}) for one in known[row.spec.layers]]
        progress(row.id)
    write(path, about, rows)
    return rows
