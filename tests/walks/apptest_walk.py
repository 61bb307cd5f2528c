"""Fast walks: a visitor with a :class:`tests.walks.tab.Tab` takes random steps among those that the page offers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial

from tests.server import ROOT
from tests.walks import oracles, texts
from tests.walks.fake_jobs import FakeJob, worker_of_walks
from tests.walks.messages import Part
from tests.walks.replay import Fault, Step, script, shorten
from tests.walks.tab import Tab
from ui import address_keys

PAGES = ["app.py", *sorted(f"pages/{p.name}" for p in (ROOT / "pages").glob("*.py"))]
LENGTH = 40
"""Steps of one visitor."""
LEAST = 11
"""At least this many steps are taken, also on a slow machine."""
JOB_ACTIONS = ("begin", "result", "result", "result", "finish", "fail")


class Walk:
    """A visitor, the runs that they started, and the quantities seen so far."""

    def __init__(self, jobs: list[FakeJob], ledger: oracles.Ledger, fresh_every: int = 1) -> None:
        self.tab = Tab()
        self.jobs, self.ledger, self.fresh_every = jobs, ledger, fresh_every
        self.steps: list[Step] = []
        self.own = False

    # -- what can be done ------------------------------------------------------------------------------------------

    def offers(self, rng: random.Random) -> Step:
        """A random step among those that are possible now."""
        tab = self.tab
        ways: list[Step] = [("control",)] * 14 + [("page",)] * 3 + [("reload",)]
        if tab.popovers():
            ways += [("popover",)] * 3
        if any(not job.done for job in self.jobs):
            ways += [("job",)] * 6
        runs = [p for p in tab.controls() if p.kind == "button" and p.proto.type == "primary"]
        if runs:
            ways += [("run",)] * 2
        match rng.choice(ways)[0]:
            case "control" if tab.controls():
                return self._use(rng.choice(tab.controls()), rng)
            case "popover":
                return ("open", rng.randrange(len(tab.popovers())))
            case "job":
                return ("job", rng.choice(JOB_ACTIONS), rng.choice((0, 0, 0, 1, 2, 3)))
            case "run":
                return ("click", rng.choice(runs).name)
            case "reload":
                return ("reload",)
        return ("page", rng.choice(PAGES))

    def _use(self, part: Part, rng: random.Random) -> Step:
        p = part.proto
        match part.kind:
            case "selectbox" | "radio":
                return ("set", part.name, rng.choice(p.options) if p.options else None)
            case "multiselect":
                some = rng.sample(list(p.options), rng.randint(0, min(3, len(p.options))))
                return ("set", part.name, some[: p.max_selections or None])
            case "slider" if p.options:
                return ("set", part.name, [rng.choice(p.options)])
            case "slider":
                return ("set", part.name, [float(rng.randint(int(p.min), int(p.max)))])
            case "button_group":
                return ("set", part.name, [rng.choice(p.options).content])
            case "checkbox":
                return ("set", part.name, not self.tab.shown(part))
            case "number_input":
                return ("set", part.name, texts.number(p, self.tab.shown(part), rng))
            case "text_input" | "text_area":
                return ("set", part.name, texts.typed(p, rng))
            case "file_uploader":
                return ("upload", part.name, rng.randrange(len(texts.FILES)))
        return ("click", part.name)

    # -- doing it --------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Do a step; if its control is not there, do nothing."""
        tab, what, *rest = self.tab, *step
        match what:
            case "page":
                tab.go(rest[0])
            case "address":
                tab.go(rest[0], rest[1])
            case "reload":
                query = dict(tab.at.query_params)
                self.tab = Tab(tab.page, query)
            case "open" if rest[0] < len(tab.popovers()):
                tab.open_popover(tab.popovers()[rest[0]])
            case "job":
                for job in [job for job in self.jobs if not job.done][-1:]:
                    action, after = rest
                    if after:
                        job.later = (after, partial(job.move, action))
                        tab._run(tab._states())
                    else:
                        job.move(action)
            case "set" | "click" | "upload":
                for part in [p for p in tab.controls() if p.name == rest[0]][:1]:
                    if what == "set":
                        tab.put(part, rest[1])
                    elif what == "click":
                        self.own |= "never in an address" in (address_keys.reason(part.name) or "")
                        tab.click(part)
                    else:
                        tab.upload(part, *texts.FILES[rest[1]])

    def take(self, step: Step) -> list[Fault]:
        """Do a step and return the faults that the oracles find."""
        self.steps.append(step)
        self.do(step)
        # between two steps of a visitor every live fragment runs once
        for fragment in sorted(self.tab.live):
            self.tab.run_fragment(fragment)
        return [Fault(oracle, self.tab.page, what, list(self.steps)) for oracle, what in self._asked()]

    def _asked(self) -> Iterator[tuple[str, str]]:
        yield from oracles.sound(self.tab)
        yield from oracles.controls_read_what_is_used(self.tab)
        yield from self.ledger.check(self.tab)
        # a run, an upload and a log are this visitor's own: only what an address can carry is compared
        if not self.jobs and not self.tab.files and not self.own and len(self.steps) % self.fresh_every == 0:
            yield from oracles.fresh_is_the_same(self.tab)


def play(steps: Sequence[Step], sought: tuple[str, str] | None = None) -> Fault | None:
    """Walk `steps`; the first fault, or the first one of the kind `sought`; None if there is none."""
    with worker_of_walks() as jobs:
        # compare addresses only if the fault that is sought may be one of them
        walk = Walk(jobs, oracles.Ledger(), fresh_every=1 if sought is None or sought[0] == "address" else 10**9)
        for step in steps:
            for fault in walk.take(tuple(step)):
                if sought in (None, fault.kind):
                    return fault
    return None


def walk(seed: int, steps: int, until: float, known: set[tuple[str, str]] | None = None) -> tuple[int, list[str]]:
    """Take walks of LENGTH steps until `steps` are done, or until the clock is past `until` and LEAST are done.

    Args:
        until: seconds of the monotonic clock.
        known: kinds of fault that are already reported; each kind is reported once.

    Returns:
        (number of steps done, a report of each fault: what, where, seed, and a shortened script).
    """
    known = set() if known is None else known
    done, reports = 0, []
    ledger = oracles.Ledger()
    number = 0

    def goes_on() -> bool:
        return done < LEAST or time.monotonic() < until

    while done < steps and goes_on():
        rng = random.Random(f"{seed} {number}")
        found: list[tuple[int, Fault]] = []
        with worker_of_walks() as jobs:
            visitor = Walk(jobs, ledger, fresh_every=2)
            step: Step = ("address", rng.choice(PAGES), texts.query(rng))
            while len(visitor.steps) < LENGTH and goes_on():
                done += 1
                for fault in visitor.take(step):
                    if fault.kind not in known:
                        known.add(fault.kind)
                        found.append((done, fault))
                step = visitor.offers(rng)
        for after, fault in found:
            shortest = shorten(fault, partial(play, sought=fault.kind))
            reports.append(f"found after {after} steps\n" + script(f"{seed} {number}", fault, shortest, "apptest_walk"))
        number += 1
    return done, reports


replay = play
