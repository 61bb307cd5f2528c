"""Heads per accelerator on the page Heads."""

from __future__ import annotations

from tests.pages.test_pages import assert_sound, open_page, pick, said


def test_copies_are_said_and_other_models_get_what_they_allow() -> None:
    at = open_page("pages/heads.py", h_tp="16")
    assert_sound(at)
    assert "16 ranks, 8 K/V heads: 2 copies of every entry, 1/2 of the cache's memory is lost." in said(at)
    # 12 heads: 12 is the largest number of ranks that is no larger than 16
    at = pick(at, "openai-community/gpt2")
    assert_sound(at)
    assert at.selectbox(key="h_tp").value == 12
    assert "12 ranks, 12 K/V heads: each rank holds 1 head, and nothing is kept twice." in said(at)
    assert "no heads to deal out" in said(pick(at, "tiiuae/falcon-mamba-7b"))
