"""Fast walks over all pages, with a fixed seed and with a random seed that a failure names."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import pytest

from tests.long import SOAK
from tests.walks.apptest_walk import LEAST, play, walk
from tests.walks.fake_jobs import worker_of_walks
from tests.walks.replay import Fault, Step, shorten
from tests.walks.tab import Tab

SECONDS = 300 if SOAK else 12
STEPS = 20_000 if SOAK else 300


@pytest.mark.timeout(2 * SECONDS + 240)
@pytest.mark.parametrize("seed", [20260101, None], ids=["fixed", "fresh"])
def test_nothing_is_found(seed: int | None) -> None:
    seed = secrets.randbelow(10**6) if seed is None else seed
    done, reports = walk(seed, STEPS, time.monotonic() + SECONDS)
    print(f"seed {seed}: {done} steps")
    assert done >= LEAST
    assert not reports, f"seed {seed}, {done} steps:\n" + "\n".join(reports)


def test_a_walk_is_shortened() -> None:
    """Steps that the fault does not need are left out; the first step, which opens the page, stays."""
    steps = [("page", "a"), *(("set", f"k{n}", n) for n in range(40)), ("click", "bad")]

    def fake(tried: Sequence[Step]) -> Fault | None:
        done = list(tried)
        return Fault("x", "y", "z", done) if ("set", "k7", 7) in done and ("click", "bad") in done else None

    assert shorten(Fault("x", "y", "z", steps), fake) == [("page", "a"), ("set", "k7", 7), ("click", "bad")]


def test_a_step_whose_control_is_gone_is_passed_over() -> None:
    assert play([("address", "pages/about.py", {}), ("set", "nothing of this name", 3), ("click", "nor this")]) is None


def test_a_list_whose_names_change_reads_the_new_one() -> None:
    """Found by a walk: the browser holds a choice by its name, and can show an old name."""
    tab = Tab("pages/heads.py", {"model": "custom", "kv_heads": "4"})
    tab.put(next(part for part in tab.controls() if part.name == "heads"), 5.0)
    layer = next(part for part in tab.controls() if part.name == "h_layer")
    assert tab.shown(layer) == tab.known(layer) == "full · 1 K/V head · 32 layers"


@pytest.mark.parametrize(
    ("page", "heads", "key", "name"),
    [("pages/spectrum.py", "heads", "spec_kv_pick", "MQA"), ("pages/timings.py", "t_heads", "t_kv", "MQA")],
)
def test_a_sharing_is_named_for_the_heads_there_are(page: str, heads: str, key: str, name: str) -> None:
    """Found by a walk: one K/V head is MHA with one query head, but MQA with more of them."""
    tab = Tab(page, {"model": "custom", "heads": "1", "kv_heads": "1", "t_heads": "1", "t_kv": "1"})
    for n in (1.0, 64.0):
        tab.put(next(part for part in tab.controls() if part.name == heads), n)
    control = next(part for part in tab.controls() if part.name == key)
    assert tab.shown(control) == tab.known(control) == [name]


def test_controls_that_a_run_left_out_read_their_values_when_it_has_ended() -> None:
    """Found by a walk: if another control is moved during a run, View must show its value after the run."""
    with worker_of_walks() as jobs:
        tab = Tab("pages/timings.py")
        tab.click(next(part for part in tab.controls() if part.name == "timings_run"))
        tab.put(next(part for part in tab.controls() if part.name == "t_heads"), 41.0)
        jobs[0].move("fail")
        for fragment in sorted(tab.live):
            tab.run_fragment(fragment)
        for name in ("t_view", "t_shape"):
            control = next(part for part in tab.controls() if part.name == name)
            assert tab.shown(control) == tab.known(control) != []
