"""Which rank holds which K/V heads, worked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from attention.serving.ranks import dcp_options, ranks, sharings, tp_options
from attention.spec import Kind, Layer, attention_layer, latent_layer
from viz.ranks import boxes

GQA, MQA = attention_layer(32, 8, 64), attention_layer(32, 1, 64)
LATENT = latent_layer(128, 512, 64, 128, 128)


def test_heads_are_dealt_out_in_order() -> None:
    found = ranks(GQA, 4)
    assert [rank.heads for rank in found.ranks] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert (found.copies, found.lost, any(rank.copied for rank in found.ranks)) == (1, 0, False)
    assert found.says == "4 ranks, 8 K/V heads: each rank holds 2 heads, and nothing is kept twice."
    assert ranks(GQA, 1).says == "1 rank, 8 K/V heads: it holds all of them."


def test_more_ranks_than_heads_hold_copies() -> None:
    found = ranks(GQA, 16)
    assert [rank.heads for rank in found.ranks[:4]] == [(0,), (0,), (1,), (1,)]
    assert [rank.copied for rank in found.ranks[:4]] == [False, True, False, True]
    assert found.lost == Fraction(1, 2)
    one = ranks(MQA, 8)
    assert one.says == "8 ranks, 1 K/V head: 8 copies of every entry, 7/8 of the cache's memory is lost."
    assert sum(not rank.copied for rank in one.ranks) == 1


def test_tokens_of_copies_are_dealt_out() -> None:
    half, whole = ranks(MQA, 8, 4), ranks(MQA, 8, 8)
    assert (half.copies, [rank.share for rank in half.ranks]) == (2, [0, 1, 2, 3] * 2)
    assert [rank.copied for rank in half.ranks] == [False] * 4 + [True] * 4
    assert (whole.copies, [rank.share for rank in whole.ranks]) == (1, list(range(8)))
    assert "each holds every 8th token, and nothing is kept twice" in whole.says
    # every entry is held as many times as stated: heads x shares, counted
    for tp, dcp in ((8, 1), (16, 2), (32, 2), (32, 4)):
        held = [(rank.heads, rank.share) for rank in ranks(GQA, tp, dcp).ranks]
        assert {held.count(entry) for entry in held} == {ranks(GQA, tp, dcp).copies}


def test_a_latent_is_on_every_rank() -> None:
    found = ranks(LATENT, 8)
    assert {rank.heads for rank in found.ranks} == {(0,)}
    assert "for a latent has no heads to deal out" in found.says
    assert ranks(LATENT, 8, 8).copies == 1


def test_groups_have_requests_of_their_own() -> None:
    found = ranks(GQA, 4, 1, 2)
    assert [rank.group for rank in found.ranks] == [0] * 4 + [1] * 4
    assert not any(rank.copied for rank in found.ranks)
    assert "2 such groups" in found.says


def test_what_cannot_be_dealt_out_is_refused() -> None:
    assert tp_options(attention_layer(24, 6, 64), 24) == (1, 2, 3, 6, 12, 24)
    assert dcp_options(GQA, 32) == (1, 2, 4)
    for layer, tp, dcp, words in (
        (GQA, 3, 1, "tp must divide n_heads"),
        (attention_layer(24, 6, 64), 4, 1, "evenly"),
        (GQA, 8, 2, "dcp must be one of 1"),
        (Layer(Kind.NONE), 1, 1, "no heads to deal out"),
    ):
        with pytest.raises(ValueError, match=words):
            ranks(layer, tp, dcp)


def test_boxes_show_each_rank_and_mark_copies() -> None:
    drawn = boxes(ranks(GQA, 16, 1, 2), 8, 1)
    assert drawn.count("GPU ") == 32
    assert drawn.count("Requests of group") == 2
    assert drawn.count("(copy)") == drawn.count("repeating-linear-gradient") == 16
    assert "heads 0–1" in boxes(ranks(GQA, 4), 8, 1)
    assert "tokens 1, 9, …" in boxes(ranks(MQA, 8, 8), 1, 8)
    assert "latent (copy)" in boxes(ranks(LATENT, 2), 1, 1, latent=True)
    with pytest.raises(ValueError, match="too many to draw"):
        boxes(ranks(attention_layer(1024, 1024, 64), 64, 1, 8), 1024, 1)


def test_below_as_many_heads_as_ranks_each_keeps_the_same_whatever_is_shared() -> None:
    found = sharings(GQA, 8)
    assert [dealt.n_kv_heads for dealt in found] == [32, 16, 8, 4, 2, 1]
    assert [dealt.kept for dealt in found] == [4, 2, 1, 1, 1, 1]
    assert [dealt.needed for dealt in found] == [4, 2, 1, Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)]
    assert [dealt.ranks.copies for dealt in found] == [1, 1, 1, 2, 4, 8]
    # a latent layer has as many as its query heads; numbers that 8 ranks cannot share evenly are left out
    assert [dealt.n_kv_heads for dealt in sharings(LATENT, 8)] == [128, 64, 32, 16, 8, 4, 2, 1]
    assert [dealt.n_kv_heads for dealt in sharings(attention_layer(24, 8, 64), 8)] == [24, 8, 4, 2, 1]
    with pytest.raises(ValueError, match="tp must divide n_heads = 32, got 3"):
        sharings(GQA, 3)
    with pytest.raises(ValueError, match="no heads to deal out"):
        sharings(Layer(Kind.NONE, ()), 1)
