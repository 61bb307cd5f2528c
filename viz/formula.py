"""The cache's formula with its numbers put in, as LaTeX (KaTeX renders it)."""

from __future__ import annotations

from collections.abc import Sequence

from attention.breakdown import Term
from attention.spec import Role
from attention.units import binary_bytes

_ROLE_NAMES = {
    Role.KEY_VALUE: "K and V",
    Role.LATENT: "latent",
    Role.INDEXER: "indexer keys",
    Role.COMPRESSED: "compressed",
    Role.CROSS: "cross-attention",
    Role.CONVOLUTION: "convolution",
    Role.RECURRENT: "recurrent state",
    Role.BUFFER: "buffer",
}


def cache_formula(terms: Sequence[Term]) -> str:
    """One line per term, factor by factor with a brace that names it, and the sum under more than one.

    The factors' product is the term's bytes except where a format rounds up to whole groups or keeps scales;
    such a line says so.
    """
    if not terms:
        return r"0\ \text{bytes: this model keeps nothing per sequence}"
    rows = [rf"{_name(term, terms)} &= {_factors(term)} = {_bytes(term.total_bytes)}" for term in terms]
    if len(terms) > 1:
        rows.append(rf"\text{{all}} &= \mathbf{{{_bytes(sum(t.total_bytes for t in terms))}}}")
    return r"\begin{aligned}" + r" \\[6pt] ".join(rows) + r"\end{aligned}"


def _name(term: Term, terms: Sequence[Term]) -> str:
    same_kind = [t for t in terms if t.kind is term.kind]
    words = str(term.kind) if len(same_kind) == 1 else f"{term.kind}, {_ROLE_NAMES[term.role]}"
    return rf"\text{{{words}}}"


def _factors(term: Term) -> str:
    parts = [_brace(f"{term.batch:,}", "sequences")] if term.batch > 1 else []
    parts.append(_brace(f"{term.n_layers:,}", "layer" if term.n_layers == 1 else "layers"))
    if term.positions is None:
        parts.append(_brace(f"{term.elements:,}", "elements, always"))
    else:
        parts.append(_brace(f"{term.positions:,}", _positions(term)))
        parts += _entry(term)
    parts.append(_brace(f"{term.bits_per_element / 8:.6g}", "bytes" if term.bits_per_element > 8 else "byte"))
    text = r" \cdot ".join(parts)
    if term.scale_bytes:
        text += " + " + _brace(f"{term.scale_bytes * term.batch:,}", "scales")
    return text


def _positions(term: Term) -> str:
    if term.role is Role.CROSS:
        return "source tokens"
    if term.stride > 1:
        return f"one per {term.stride} tokens"
    if term.window is not None and term.positions == term.window:
        return "window"
    return "tokens"


def _entry(term: Term) -> list[str]:
    if term.role is Role.LATENT:
        return [_brace(f"({term.k_head_dim:,} + {term.v_head_dim:,})", "latent + RoPE")]
    heads = [_brace(f"{term.n_kv_heads:,}", "K/V heads" if term.n_kv_heads > 1 else "K/V head")]
    if term.v_head_dim == term.k_head_dim:
        return [_brace("2", "K, V"), *heads, _brace(f"{term.k_head_dim:,}", "head size")]
    if not term.v_head_dim:
        return [*heads, _brace(f"{term.k_head_dim:,}", "size")]
    return [*heads, _brace(f"({term.k_head_dim:,} + {term.v_head_dim:,})", "K + V size")]


def _brace(value: str, name: str) -> str:
    return rf"\underbrace{{{_number(value)}}}_{{\text{{{name}}}}}"


def _number(text: str) -> str:
    # a bare comma is punctuation to TeX and gets a space after it
    return text.replace(",", "{,}")


def _bytes(n: int) -> str:
    exact = rf"{_number(f'{n:,}')}\ \text{{bytes}}"
    return exact if n < 1000 else rf"{exact}\ ({binary_bytes(n).replace(' ', chr(92) + ' ' + chr(92) + 'text{', 1)}}})"
