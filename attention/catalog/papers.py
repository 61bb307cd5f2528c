"""Tables of the MQA and GQA papers (arXiv:1911.02150, arXiv:2305.13245) as printed, with nothing recomputed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAPERS = Path(__file__).with_name("papers.toml")


@dataclass(frozen=True, slots=True)
class Table:
    """A printed table. Cells are text exactly as printed ("" for an empty cell).

    Attributes:
        rows: (the model, its cells in the order of `columns`).
    """

    paper: str
    number: int
    title: str
    authors: str
    arxiv: str
    caption: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def citation(self) -> str:
        """The authors and the table, e.g. "Ainslie et al. 2023, Table 1", with a Markdown link to the paper."""
        return f"[{self.authors}](https://arxiv.org/abs/{self.arxiv}), Table {self.number}"

    def value(self, model: str, column: str) -> float:
        """A printed number.

        Raises:
            KeyError: no such row or column.
            ValueError: the cell holds no number.
        """
        found = dict(self.rows)[model][self.columns.index(column)] if column in self.columns else None
        if found is None:
            raise KeyError(column)
        return float(found)

    def records(self) -> list[dict[str, str]]:
        """The rows as dictionaries of text, for display."""
        return [{"Model": model, **dict(zip(self.columns, values, strict=True))} for model, values in self.rows]


@cache
def table(paper: str, number: int) -> Table:
    """Table `number` of "gqa" or "mqa".

    Raises:
        KeyError: no such table is recorded.
    """
    entry = tomllib.loads(PAPERS.read_text(encoding="utf-8"))[paper]
    found = entry[f"table{number}"]
    return Table(
        paper,
        number,
        entry["title"],
        entry["authors"],
        entry["arxiv"],
        found["caption"],
        found.get("note", ""),
        tuple(found["columns"]),
        tuple((row["model"], tuple(row["values"])) for row in found["row"]),
    )
