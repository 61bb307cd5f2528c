"""How many parameters a model has, and how many of them one decode step reads.

A step does not read all parameters, for three reasons. A token takes only its own row from a table (input embeddings
that do not also serve as the output projection, learned positions, Gemma's per-layer embeddings). A router leaves
experts out. An encoder has run before the first step. :class:`Parameters` keeps these parts apart. The numbers come
from a model's configuration (``configs/parameter_rules.py``) or from its own code (``oracle/parameters.py``); the
numbers of the catalogue's models are recorded in ``data/parameters.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

STATED = "stated"
"""Source of a bare total, whose parts are not known."""
FILE = Path(__file__).parent / "data" / "parameters.json"


@dataclass(frozen=True, slots=True)
class Routed:
    """Experts of equal layers, of which a router chooses some for each token.

    Attributes:
        n_layers: layers that have these experts.
        n_experts: experts in each layer; n_chosen: experts that the router chooses for a token.
        each: parameters of one expert in one layer.

    Raises:
        ValueError: a number out of range.
    """

    n_layers: int
    n_experts: int
    n_chosen: int
    each: int

    def __post_init__(self) -> None:
        if not 1 <= self.n_chosen <= self.n_experts:
            raise ValueError(f"n_chosen must be between 1 and n_experts = {self.n_experts}, got {self.n_chosen}")
        if self.n_layers < 1 or self.each < 1:
            raise ValueError(f"n_layers and each must be at least 1, got {self.n_layers} and {self.each}")

    @property
    def total(self) -> int:
        """Parameters of all experts of all these layers."""
        return self.n_layers * self.n_experts * self.each

    def distinct(self, batch: int) -> float:
        """Expected number of different experts of one layer that `batch` tokens choose, if each token chooses
        k = n_chosen of n = n_experts at random: n·(1 − (1 − k/n)^batch)."""
        return self.n_experts * (1 - (1 - self.n_chosen / self.n_experts) ** batch)


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's parameters, by what a decode step does with them.

    Attributes:
        total: all parameters; tied ones count once.
        looked_up: parameters in tables of which a token reads its own row; rows: parameters of one token's rows.
        idle: parameters that decoding does not read: an encoder's, and those that make cross-attention's keys and
            values.
        routed: experts, of which a token passes through some.
        source: where the numbers come from, in a few words.
        assumed: sizes that the file leaves out and its class states, e.g. "vocab_size = 32,000".

    Raises:
        ValueError: a number out of range, or a total that is less than its parts.
    """

    total: int
    looked_up: int = 0
    rows: int = 0
    idle: int = 0
    routed: tuple[Routed, ...] = ()
    source: str = STATED
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.total < 1:
            raise ValueError(f"total must be at least 1, got {self.total!r}")
        for name in ("looked_up", "rows", "idle"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        apart = self.looked_up + self.idle + sum(group.total for group in self.routed)
        if apart > self.total:
            raise ValueError(f"total = {self.total:,} is less than its parts, which are {apart:,}")

    @property
    def active(self) -> int:
        """Parameters that one token passes through; embedding tables count in full."""
        return self.total - sum(g.n_layers * (g.n_experts - g.n_chosen) * g.each for g in self.routed)

    @property
    def read(self) -> int:
        """The fewest parameters that a decode step reads at any batch size: all tokens may choose the same experts."""
        return self.active - self.looked_up - self.idle + self.rows

    def expected_read(self, batch: int) -> int:
        """Parameters that a step of `batch` sequences reads on average, if all experts are equally likely."""
        more = sum(g.n_layers * (g.distinct(batch) - g.n_chosen) * g.each for g in self.routed)
        return self.read + round(more)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, without those that are 0 or empty."""
        values = asdict(self)
        values["routed"] = [[g.n_layers, g.n_experts, g.n_chosen, g.each] for g in self.routed]
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Parameters:
        """The parameters from the values of :meth:`to_json`.

        Raises:
            ValueError: values that contradict each other, or an unknown field.
        """
        try:
            routed = tuple(Routed(*group) for group in values.get("routed", ()))
            return cls(**{**values, "routed": routed, "assumed": tuple(values.get("assumed", ()))})
        except TypeError as error:
            raise ValueError(f"not a count of parameters: {error}") from None


@cache
def _record() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8"))["models"])


def recorded(model_id: str) -> Parameters | None:
    """The recorded parameters of a model of the catalogue; None if they are not recorded."""
    values = _record().get(model_id)
    return None if values is None else Parameters.from_json(values)


def write(models: Mapping[str, Parameters], about: Mapping[str, str]) -> None:
    """Write `models` (by model id) to the record; `about` says how the numbers were made."""
    lines = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(p.to_json())}" for name, p in sorted(models.items()))
    FILE.write_text(f'{{\n "about": {json.dumps(about)},\n "models": {{\n  {lines}\n }}\n}}\n', encoding="utf-8")
    _record.cache_clear()
