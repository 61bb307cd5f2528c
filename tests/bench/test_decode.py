"""The peers compute the same attention as the specification, and the table says what was measured."""

from __future__ import annotations

import pytest
import torch

from attention.kernels import reference
from attention.kernels.case import Case, Result
from attention.kernels.reference import relative_error, tolerance
from bench import __main__ as bench_main
from bench import decode
from bench.peers import peers


# raised inside x-transformers at import
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("n_kv_heads", [6, 3, 1])
def test_peers_equal_the_specification(phase: str, n_kv_heads: int) -> None:
    query = 1 if phase == "decode" else 37
    q = torch.randn(2, 6, query, 10)
    k, v = (torch.randn(2, n_kv_heads, 37, 10) for _ in range(2))
    expected = reference.attention(q, k, v)
    found = peers(phase)
    assert {"transformers_sdpa", "transformers_eager", "x_transformers", "x_transformers_flash"} <= set(found)
    for peer in found.values():
        assert relative_error(peer.run(q, k, v), expected) < tolerance("float32", 37), peer.name


def timed(name: str, median_s: float | None, bound: str = "memory") -> Result:
    return Result(
        Case(name, 32, 8, 128, 4096, 1, "float32", "cpu"), median_s, 1e-5, 1.0, 1e-6, 0.001,
        median_s / 0.001 if median_s else None, bound=bound,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("median_s", "bound", "verdict"),
    [(0.0012, "memory", "1.25 ✓"), (0.0013, "memory", "1.25 ✗"), (0.0019, "arithmetic", "2.0 ✓")],
)
def test_a_row_sets_our_fastest_against_floor_and_peers(median_s: float, bound: str, verdict: str) -> None:
    ours = [timed("native", median_s, bound), timed("folded_matmul", 0.009, bound)]
    row = decode.row([*ours, timed("enable_gqa", 3 * median_s, bound), timed("flex", None, bound)])
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(decode.HEAD) + len(decode.PEERS)
    assert cells[7] == "native"
    assert cells[10] == f"{median_s / 0.001:.2f}"
    assert cells[11] == verdict
    assert dict(zip(decode.PEERS, cells[12:], strict=True))["enable_gqa"] == "3.00"
    assert dict(zip(decode.PEERS, cells[12:], strict=True))["flex"] == "–"


def test_unknown_measurements_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_main.main(["nothing"]) == 2
    assert "unknown 'nothing'; known are" in capsys.readouterr().err
