"""Roles: their places worked by hand, scores of heads made to play them, and what is recorded of the shipped models."""

from __future__ import annotations

import numpy as np
import pytest

from attention.tiny.config import MODELS
from attention.tiny.corpus import load_corpus
from attention.tiny.head_roles import (
    group_similarity,
    named,
    recorded_roles,
    sample_texts,
    score_roles,
    similarity,
)
from attention.tiny.numpy_forward import load_named, maps
from attention.tiny.role_places import ROLES, HeadRole, induction, matching_bracket, same_indentation
from tests.long import short

TEXT = b"if a(b[1]):\n    total = 3\n    total = (4)\n"


def places(matrix: np.ndarray) -> set[tuple[int, int]]:
    return {(int(t), int(s)) for t, s in zip(*np.nonzero(matrix), strict=True)}


def test_brackets_match_by_hand() -> None:
    text = b"f(a[1], {2})]"
    assert places(matching_bracket(text)) == {(5, 3), (10, 8), (11, 1)}
    assert places(matching_bracket(b"(]")) == set()


def test_lines_of_equal_indentation_by_hand() -> None:
    text = b"a\n  b\n\n  c\nd\n"
    # starts: a 0, b 4, c 9, d 11
    assert places(same_indentation(text)) == {(9, 4), (11, 0)}


def test_induction_by_hand() -> None:
    #       0123456789
    text = b"abcX  abcY"
    assert places(induction(text)) == {(8, 3)}
    assert places(ROLES[4].places(text)) == {(8, 2)}
    assert ROLES[4].key == "occurrence"


def test_induction_never_points_to_itself_or_ahead() -> None:
    for text in (b"aaaaaaa", b"abababab", b"a", b"    \n    \n"):
        matrix = induction(text)
        assert not np.triu(matrix).any()


@pytest.mark.parametrize("role", ROLES, ids=[r.key for r in ROLES])
def test_every_role_looks_back_only_and_survives_any_text(role: HeadRole) -> None:
    for text in (b"x", b"\n", b")", TEXT, bytes(range(256))):
        matrix = role.places(text)
        assert matrix.shape == (len(text), len(text))
        assert not np.triu(matrix).any(), role.key


@pytest.mark.parametrize("role", ROLES, ids=[r.key for r in ROLES])
def test_a_head_that_plays_a_role_scores_one_and_an_even_one_scores_chance(role: HeadRole) -> None:
    matrix = role.places(TEXT)
    n = len(TEXT)
    even = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    player = np.where(matrix.any(1, keepdims=True), matrix / np.maximum(1, matrix.sum(1, keepdims=True)), even)
    scored = score_roles([TEXT], [np.stack([even, player])[None]])[role.key]
    assert scored.n_queries == matrix.any(1).sum() > 0
    assert scored.score[0, 1] == pytest.approx(1.0)
    assert scored.score[0, 0] == pytest.approx(scored.uniform)
    assert (scored.chance >= scored.uniform).all()


def test_a_head_that_only_knows_distances_scores_its_distance_chance() -> None:
    n = len(TEXT)
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    near = np.where(distance >= 0, 0.7 ** np.maximum(distance, 0), 0.0)
    near /= near.sum(-1, keepdims=True)
    scored = score_roles([TEXT] * 3, [near[None, None]] * 3)["indentation"]
    # edge rows are shorter than the profile's average row, hence not exactly equal
    assert scored.by_distance[0, 0] == pytest.approx(scored.score[0, 0], rel=0.25)


def test_similarity_by_hand() -> None:
    n = 5
    own = np.eye(n)
    first = np.zeros((n, n))
    first[:, 0] = 1
    half = (own + first) / 2
    matrix = similarity(np.stack([own, first, half, own]))
    assert np.allclose(np.diag(matrix), 1)
    assert matrix[0, 3] == pytest.approx(1)
    assert matrix[0, 1] == pytest.approx(0)
    # JSD of (1, 0) and (1/2, 1/2), base 2: H(3/4, 1/4) - 1/2
    divergence = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) - 0.5
    assert matrix[0, 2] == pytest.approx(1 - divergence)


def test_groups_are_contiguous() -> None:
    matrix = np.array([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.7], [0.2, 0.4, 0.7, 1]])
    assert group_similarity(matrix, 2) == pytest.approx((0.8, 0.25))
    assert group_similarity(matrix, 1)[1] is None
    assert group_similarity(matrix, 4)[0] is None


def test_every_shipped_model_has_a_head_clearly_above_chance() -> None:
    record = recorded_roles()
    assert set(record["models"]) == set(MODELS)
    for name, model in record["models"].items():
        best = [n for layer in range(4) for head in range(8) if (n := named(model, layer, head))]
        assert best, name
        top = max(best, key=lambda n: n.score)
        assert top.score > 5 * top.chance, name


@pytest.mark.parametrize("name", short(list(MODELS), ["mqa"]))
def test_recorded_scores_are_found_again_on_held_out_text(name: str) -> None:
    model = recorded_roles()["models"][name]
    recorded = np.array(model["roles"]["previous"]["score"])
    layer, head = np.unravel_index(recorded.argmax(), recorded.shape)
    texts = sample_texts(load_corpus(), 256, 6)
    weights = load_named(name)
    scored = score_roles(texts, [maps(weights, text).attention for text in texts])["previous"]
    # six windows in place of hundreds: a margin of a third
    assert scored.score[layer, head] == pytest.approx(recorded[layer, head], rel=0.33)
    assert scored.score[layer, head] > 5 * scored.uniform


def test_an_untrained_model_has_no_such_head() -> None:
    from attention.tiny.config import TinyConfig
    from attention.tiny.model import initialised
    from attention.tiny.numpy_forward import TinyWeights

    config = TinyConfig(n_kv_heads=2)
    arrays = {k: v.numpy() for k, v in initialised(config, 3).state_dict().items()}
    texts = sample_texts(load_corpus(), 256, 2)
    scored = score_roles(texts, [maps(TinyWeights(config, arrays), t).attention for t in texts])
    assert scored["previous"].score.max() < 3 * scored["previous"].uniform


def test_names_need_score_and_distance_from_chance() -> None:
    def model(score: float, uniform: float) -> dict:
        silent = {"score": [[0.0]], "uniform": 0.02, "by_distance": [[0.02]]}
        roles = {role.key: silent for role in ROLES}
        return {"roles": {**roles, "bracket": {"score": [[score]], "uniform": uniform, "by_distance": [[0.01]]}}}

    found = named(model(0.4, 0.02), 0, 0)
    assert found is not None
    assert found.role.key == "bracket"
    assert named(model(0.05, 0.001), 0, 0) is None
    assert named(model(0.4, 0.3), 0, 0) is None
