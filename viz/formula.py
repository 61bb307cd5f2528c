"""The formula of the cache with the model's numbers, as HTML.

It is not TeX, which takes 43 of the 250 ms of a moved slider and whose lines cannot break on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence

from attention.memory.breakdown import Term
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


def cache_formula(terms: Sequence[Term], more: int = 0, more_bytes: int = 0) -> str:
    """One line per term: its factors, each with a name below, and the term's bytes; below several lines their sum.

    The factors' product is the term's bytes, unless a format rounds up to whole groups or keeps scales. The classes
    stand in ``ui/style.css``.

    Args:
        terms: the terms to write.
        more, more_bytes: number of terms that are left out, and their bytes together.
    """
    if not terms:
        return '<p class="hs-formula">0 bytes: this model keeps nothing per sequence</p>'
    lines = [_line(_name(term, terms), f"= {_factors(term)} ", term.total_bytes) for term in terms]
    if more:
        lines.append(_line(f"{more:,} more", "", more_bytes))
    if len(lines) > 1:
        lines.append(_line("all", "", more_bytes + sum(term.total_bytes for term in terms)))
    return f'<div class="hs-formula">{"".join(lines)}</div>'


def _line(name: str, factors: str, total: int) -> str:
    return f"<div>{name}</div><div>{factors}<span>= <strong>{_bytes(total)}</strong></span></div>"


def _name(term: Term, terms: Sequence[Term]) -> str:
    same_kind = [t for t in terms if t.kind is term.kind]
    return str(term.kind) if len(same_kind) == 1 else f"{term.kind}, {_ROLE_NAMES[term.role]}"


def _factors(term: Term) -> str:
    parts = [_factor(f"{term.batch:,}", "sequences")] if term.batch > 1 else []
    parts.append(_factor(f"{term.n_layers:,}", "layer" if term.n_layers == 1 else "layers"))
    if term.positions is None:
        parts.append(_factor(f"{term.elements:,}", "elements, always"))
    else:
        parts.append(_factor(f"{term.positions:,}", _positions(term)))
        parts += _entry(term)
    parts.append(_factor(f"{term.bits_per_element / 8:.6g}", "bytes" if term.bits_per_element > 8 else "byte"))
    text = " × ".join(parts)
    if term.scale_bytes:
        text += " + " + _factor(f"{term.scale_bytes * term.batch:,}", "scales")
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
        return [_factor(f"({term.k_head_dim:,} + {term.v_head_dim:,})", "latent + RoPE")]
    heads = [_factor(f"{term.n_kv_heads:,}", "K/V heads" if term.n_kv_heads > 1 else "K/V head")]
    if term.v_head_dim == term.k_head_dim:
        return [_factor("2", "K, V"), *heads, _factor(f"{term.k_head_dim:,}", "head size")]
    if not term.v_head_dim:
        return [*heads, _factor(f"{term.k_head_dim:,}", "size")]
    return [*heads, _factor(f"({term.k_head_dim:,} + {term.v_head_dim:,})", "K + V size")]


def _factor(value: str, name: str) -> str:
    return f'<span class="hs-factor"><b>{value}</b> <small>{name}</small></span>'


def _bytes(n: int) -> str:
    exact = f"{n:,} bytes"
    return exact if n < 1000 else f"{exact} ({binary_bytes(n)})"
