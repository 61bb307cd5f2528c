"""Runs in turn: clients take turns, in order of arrival, one run at a time, and nobody waits behind one that hangs."""

import threading
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from ui import frame
from ui.server.turns import Turns

PATIENCE_S = 10
NEVER_S = 100 * PATIENCE_S


class Visitors:
    """Threads that queue for a turn one after another and note when they have it."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.inside = self.most_inside = 0
        self._threads: list[threading.Thread] = []

    def arrive(self, name: str, *, client: str = "", ahead: bool = False) -> None:
        """Let `name` join the queue; returns when it is in the queue or has been served."""
        queued = self.turns.waiting + 1
        thread = threading.Thread(target=self._visit, args=(name, client, ahead), daemon=True)
        thread.start()
        self._threads.append(thread)
        until(lambda: self.turns.waiting == queued or name in self.served)

    def _visit(self, name: str, client: str, ahead: bool) -> None:
        with self.turns.turn(client=client, ahead=ahead):
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            self.served.append(name)
            self.inside -= 1

    def come_at_once(self) -> None:
        """Test that another turn comes at once: nobody has it."""
        self.arrive("at once")
        self.leave()
        assert self.served[-1] == "at once"

    def leave(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_S * 1000):
        if holds():
            return
        pause.wait(0.001)
    raise AssertionError("it did not come about")


def test_turns_come_in_order_of_arrival_and_one_at_a_time():
    visitors = Visitors(Turns(longest_s=PATIENCE_S))
    with visitors.turns.turn():
        for name in "abcde":
            visitors.arrive(name)
        assert visitors.served == []
    visitors.leave()
    assert visitors.served == list("abcde")
    assert visitors.most_inside == 1


def test_who_gave_up_a_turn_comes_next():
    visitors = Visitors(Turns(longest_s=PATIENCE_S))
    with visitors.turns.turn():
        for name in "abc":
            visitors.arrive(name)
        visitors.arrive("again", ahead=True)
    visitors.leave()
    assert visitors.served == ["again", "a", "b", "c"]


def test_clients_take_turns_however_many_runs_one_has():
    visitors = Visitors(Turns(longest_s=PATIENCE_S))
    with visitors.turns.turn(client="stranger"):
        for name in ("s1", "s2", "s3", "s4"):
            visitors.arrive(name, client="stranger")
        visitors.arrive("a1", client="a")
        visitors.arrive("b1", client="b")
        visitors.arrive("a2", client="a")
    visitors.leave()
    assert visitors.served == ["s1", "a1", "b1", "s2", "a2", "s3", "s4"]


def test_many_runs_of_one_client_that_are_given_up_do_not_go_ahead_of_others():
    visitors = Visitors(Turns(longest_s=PATIENCE_S))
    with visitors.turns.turn(client="stranger"):
        visitors.arrive("a", client="a")
        visitors.arrive("s1", client="stranger")
        for name in ("s2", "s3", "s4"):
            visitors.arrive(name, client="stranger", ahead=True)
        visitors.arrive("b, given up", client="b", ahead=True)
    visitors.leave()
    assert visitors.served == ["b, given up", "a", "s4", "s3", "s2", "s1"]


def test_long_runs_of_one_client_are_few_beside_each_other_and_hold_up_nobody_else():
    turns = Turns(longest_s=0.02, most_beside=2)
    release, inside = threading.Event(), []

    def long() -> None:
        with turns.turn(client="stranger"):
            inside.append(1)
            release.wait(PATIENCE_S)

    threads = [threading.Thread(target=long, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(inside) == 2 and turns.waiting == 3)
    with turns.turn(client="a"):
        assert len(inside) == 2
    release.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(inside) == 5


def test_a_turn_within_a_turn_is_that_turn():
    visitors = Visitors(Turns(longest_s=NEVER_S))
    with visitors.turns.turn(), visitors.turns.turn():
        pass
    assert visitors.turns.waiting == 0
    visitors.come_at_once()


def test_a_turn_that_takes_long_is_not_waited_for():
    visitors = Visitors(Turns(longest_s=0.05))
    with visitors.turns.turn():
        visitors.arrive("a")
        until(lambda: visitors.served == ["a"])
    visitors.leave()
    visitors.turns.longest_s = NEVER_S
    visitors.come_at_once()


def test_a_turn_ends_with_its_exception():
    visitors = Visitors(Turns(longest_s=NEVER_S))
    with pytest.raises(KeyError), visitors.turns.turn():
        raise KeyError
    visitors.come_at_once()


def test_a_run_given_up_for_a_newer_one_goes_ahead_but_not_twice_in_a_row(monkeypatch):
    asked = []

    class Noting(Turns):
        def turn(self, *, client="", ahead=False):
            asked.append(ahead)
            return super().turn(client=client, ahead=ahead)

    def moved_thrice():
        import streamlit as st

        from ui import frame

        with frame.page("about", title="T", lead="L"):
            st.session_state.runs = st.session_state.get("runs", 0) + 1
            if st.session_state.runs <= 3:
                st.rerun()

    monkeypatch.setattr(frame, "turns", Noting())
    app = AppTest.from_function(moved_thrice, default_timeout=30).run()
    assert app.session_state.runs == 4
    app.run()
    assert asked == [False, True, False, True, False]
