"""The three attention classes as a lesson: their source, their differences, and the shapes of a configuration.

The source is read from ``layers.py`` by its syntax tree, without an import. So the shown code is the code that runs,
and torch is not loaded.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from attention.errors import check_choice
from attention.spec import check_divides, check_size

LAYERS = Path(__file__).parents[1] / "layers.py"
MHA, MQA, GQA = "MultiHeadAttention", "MultiQueryAttention", "GroupedQueryAttention"
STEPS: dict[str, tuple[str | None, str]] = {
    "MHA": (None, MHA),
    "MHA → MQA": (MHA, MQA),
    "MQA → GQA": (MQA, GQA),
}
"""The lesson's steps: (class to compare with, or None; class to show)."""

NOTES = {
    "class MultiQueryAttention(nn.Module):": "The same skeleton: {n_changed} lines inside change.",
    "class GroupedQueryAttention(nn.Module):": "The general case; the other two are its ends.",
    "def __init__(self, hidden_size: int, n_heads: int, head_dim: int, n_kv_heads: int) -> None:": (
        "n_kv_heads becomes a choice: any divisor of n_heads = {n_heads}."
    ),
    "if n_kv_heads < 1 or n_heads % n_kv_heads:": "Groups must be equal: {n_heads} ÷ {n_kv_heads} = {group_size}.",
    'raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}, got {n_kv_heads}")': "",
    "self.n_kv_heads = 1": "One K/V head, however many query heads.",
    "self.n_kv_heads = n_kv_heads": "Here {n_kv_heads} of {n_heads}.",
    "self.k_proj = nn.Linear(hidden_size, head_dim, bias=False)": (
        "Keys of one head: {hidden_size:,} → {head_dim:,} in place of {q_size:,}."
    ),
    "self.v_proj = nn.Linear(hidden_size, head_dim, bias=False)": "Values of one head, likewise.",
    "self.k_proj = nn.Linear(hidden_size, n_kv_heads * head_dim, bias=False)": (
        "Keys of {n_kv_heads} heads: {hidden_size:,} → {kv_size:,}."
    ),
    "self.v_proj = nn.Linear(hidden_size, n_kv_heads * head_dim, bias=False)": "Values of {n_kv_heads}, likewise.",
    "k = split_heads(self.k_proj(x), 1)": "k is [{batch}, 1, {query}, {head_dim}]: this is what the cache stores.",
    "v = split_heads(self.v_proj(x), 1)": "v has the same shape.",
    "k = split_heads(self.k_proj(x), self.n_kv_heads)": (
        "k is [{batch}, {n_kv_heads}, {query}, {head_dim}]: this is what the cache stores."
    ),
    "v = split_heads(self.v_proj(x), self.n_kv_heads)": "v has the same shape.",
    "q = q.unsqueeze(1)  # one group of n_heads query heads": (
        "All {n_heads} query heads stand before the one K/V head: [{batch}, 1, {n_heads}, {query}, {head_dim}]."
    ),
    "q = q.unflatten(1, (self.n_kv_heads, -1))  # n_kv_heads groups of n_heads / n_kv_heads query heads": (
        "{group_size} query heads stand before each K/V head: "
        "[{batch}, {n_kv_heads}, {group_size}, {query}, {head_dim}]. K and V are not copied."
    ),
}
"""A line that a step adds -> what it does. A test fails if a new line of ``layers.py`` has no note."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """A layer's configuration, and its tokens: `query` new ones after `context - query` held ones.

    Raises:
        ValueError: a size below 1, more new tokens than context, or n_kv_heads that does not divide n_heads.
    """

    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    batch: int = 1
    context: int = 1
    query: int = 1

    def __post_init__(self) -> None:
        for name in ("hidden_size", "n_heads", "n_kv_heads", "head_dim", "batch", "context"):
            check_size(name, getattr(self, name))
        check_size("query", self.query, maximum=self.context)
        check_divides(self.n_heads, self.n_kv_heads)

    @property
    def group_size(self) -> int:
        return self.n_heads // self.n_kv_heads

    @property
    def n_parameters(self) -> int:
        """Weights of the layer's four projections."""
        return 2 * self.hidden_size * self.head_dim * (self.n_heads + self.n_kv_heads)

    def cache_bytes(self, element_bytes: int = 2) -> int:
        """Bytes of K and V of all `context` tokens."""
        return 2 * self.batch * self.n_kv_heads * self.context * self.head_dim * element_bytes

    def values(self) -> dict[str, int]:
        """The numbers that notes may name."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "group_size": self.group_size,
            "q_size": self.n_heads * self.head_dim,
            "kv_size": self.n_kv_heads * self.head_dim,
        }


class Line(NamedTuple):
    """A line of a shown class. `change`: " ", "-" or "+". `number`: its line in layers.py. `note`: explains a "+"."""

    change: str
    number: int
    text: str
    note: str = ""


class Shape(NamedTuple):
    """A tensor of the forward pass: its name in the code, its shape as names and as numbers, and its meaning."""

    name: str
    names: str
    sizes: tuple[int, ...]
    meaning: str


@cache
def _source() -> tuple[str, ast.Module]:
    text = LAYERS.read_text(encoding="utf-8")
    return text, ast.parse(text)


def _docstring_lines(node: ast.AST) -> set[int]:
    lines: set[int] = set()
    for child in ast.walk(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(child):
            first = child.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


@cache
def class_lines(name: str) -> tuple[tuple[int, str], ...]:
    """(line number, line) of each line of a class of layers.py, without its docstrings.

    Raises:
        ValueError: layers.py has no such class.
    """
    text, tree = _source()
    lines = text.splitlines()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            left_out = _docstring_lines(node)
            numbers = [n for n in range(node.lineno, (node.end_lineno or 0) + 1) if n not in left_out]
            kept = [(n, lines[n - 1]) for n in numbers]
            # the blank line after the class's docstring is left out too
            return tuple(p for i, p in enumerate(kept) if not (i == 1 and not p[1].strip()))
    raise ValueError(f"layers.py has no class {name}")


def class_text(name: str) -> str:
    """The source of a class of layers.py without docstrings, to copy."""
    return "\n".join(text for _, text in class_lines(name)) + "\n"


def step_lines(step: str, sizes: Sizes) -> tuple[Line, ...]:
    """A step of the lesson as lines of a diff. Notes have the configuration's numbers.

    Raises:
        ValueError: an unknown step.
    """
    check_choice("step", step, STEPS)
    old_name, new_name = STEPS[step]
    new = class_lines(new_name)
    if old_name is None:
        return tuple(Line(" ", number, text) for number, text in new)
    old = class_lines(old_name)
    out: list[Line] = []
    matcher = difflib.SequenceMatcher(None, [t for _, t in old], [t for _, t in new], autojunk=False)
    opcodes = matcher.get_opcodes()
    n_changed = sum(to - start for tag, _, _, start, to in opcodes if tag != "equal") - 1
    values = {**sizes.values(), "n_changed": n_changed}
    for tag, old_from, old_to, new_from, new_to in opcodes:
        if tag == "equal":
            out.extend(Line(" ", number, text) for number, text in new[new_from:new_to])
            continue
        out.extend(Line("-", number, text) for number, text in old[old_from:old_to])
        for number, text in new[new_from:new_to]:
            note = NOTES.get(text.strip(), "")
            out.append(Line("+", number, text, note.format(**values) if note else ""))
    return tuple(out)


def sizes_at(step: str, sizes: Sizes) -> Sizes:
    """The configuration for the class of a step: MHA has a K/V head per query head, MQA has one.

    Raises:
        ValueError: an unknown step.
    """
    check_choice("step", step, STEPS)
    fixed = {MHA: sizes.n_heads, MQA: 1}
    return replace(sizes, n_kv_heads=fixed.get(STEPS[step][1], sizes.n_kv_heads))


def shapes(sizes: Sizes) -> tuple[Shape, ...]:
    """Every tensor of one forward pass, in order, with its name in the code."""
    b, t, s, d = sizes.batch, sizes.query, sizes.context, sizes.head_dim
    h, k, g = sizes.n_heads, sizes.n_kv_heads, sizes.group_size
    return (
        Shape("x", "batch, query, hidden", (b, t, sizes.hidden_size), "the newest tokens"),
        Shape("q", "batch, n_heads, query, head_dim", (b, h, t, d), "their queries, after rotation"),
        Shape("k, v (new)", "batch, n_kv_heads, query, head_dim", (b, k, t, d), "their keys and values"),
        Shape("k, v (cache)", "batch, n_kv_heads, context, head_dim", (b, k, s, d), "all tokens held: read every step"),
        Shape("q (grouped)", "batch, n_kv_heads, group_size, query, head_dim", (b, k, g, t, d), "a view, no copy"),
        Shape("scores", "batch, n_kv_heads, group_size, query, context", (b, k, g, t, s), "query · key"),
        Shape("out", "batch, n_kv_heads, group_size, query, head_dim", (b, k, g, t, d), "weighted sums of values"),
        Shape("result", "batch, query, hidden", (b, t, sizes.hidden_size), "back in the residual stream"),
    )


_DEMO = '''

def main() -> None:
    """Build all three for one configuration and check what the lesson says."""
    hidden_size, n_heads, n_kv_heads, head_dim = {hidden_size}, {n_heads}, {n_kv_heads}, {head_dim}
    batch, context = {batch}, {context}
{note}    torch.manual_seed(0)
    mha = MultiHeadAttention(hidden_size, n_heads, head_dim)
    mqa = MultiQueryAttention(hidden_size, n_heads, head_dim)
    gqa = GroupedQueryAttention(hidden_size, n_heads, head_dim, n_kv_heads)
    x = torch.randn(batch, context, hidden_size)
    print(f"{{'':24}} {{'K/V heads':>9}} {{'parameters':>12}} {{'cache bytes (fp32)':>18}}  output")
    with torch.no_grad():
        for layer in (mha, gqa, mqa):
            cache = KVCache(batch, layer.n_kv_heads, context, head_dim)
            out = layer(x, cache)
            size = sum(p.numel() for p in layer.parameters())
            name = type(layer).__name__
            print(f"{{name:24}} {{layer.n_kv_heads:9}} {{size:12,}} {{cache.nbytes:18,}}  {{list(out.shape)}}")
        as_mha = GroupedQueryAttention(hidden_size, n_heads, head_dim, n_heads)
        as_mqa = GroupedQueryAttention(hidden_size, n_heads, head_dim, 1)
        as_mha.load_state_dict(mha.state_dict())
        as_mqa.load_state_dict(mqa.state_dict())
        for name, general, special in (("MHA", as_mha, mha), ("MQA", as_mqa, mqa)):
            difference = (general(x) - special(x)).abs().max().item()
            print(f"GQA with {{general.n_kv_heads}} K/V heads against {{name}}: largest difference {{difference:.1e}}")
            assert difference < 1e-5


if __name__ == "__main__":
    main()
'''


SCRIPT_PARAMETERS, SCRIPT_HIDDEN, SCRIPT_CONTEXT, SCRIPT_BATCH = 10**8, 1024, 512, 4


def script(sizes: Sizes) -> str:
    """layers.py and a main() for the configuration: one file that needs only torch.

    Context and batch are bounded, and so is the hidden size of a layer of more than SCRIPT_PARAMETERS weights. So the
    script needs some seconds and at most a gigabyte on any machine. The file names the sizes that were made smaller.
    """
    text, _ = _source()
    large = 4 * sizes.hidden_size * sizes.n_heads * sizes.head_dim > SCRIPT_PARAMETERS
    values = {
        "hidden_size": min(sizes.hidden_size, SCRIPT_HIDDEN) if large else sizes.hidden_size,
        "context": min(sizes.context, SCRIPT_CONTEXT),
        "batch": min(sizes.batch, SCRIPT_BATCH),
    }
    smaller = [f"{name} {getattr(sizes, name):,}" for name, value in values.items() if value != getattr(sizes, name)]
    note = f"    # made smaller, to run anywhere in seconds: {', '.join(smaller)}\n" if smaller else ""
    return text + _DEMO.format(**{**sizes.values(), **values}, note=note)
