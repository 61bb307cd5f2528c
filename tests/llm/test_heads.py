"""What heads look at: attention compared with transformers', likeness and roles of made-up maps, the real heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attention.jobs import heads as job
from attention.llm import heads, loaded
from attention.llm import model as llm
from attention.llm.looked import Looked, unpacked
from tests.llm import checkpoints
from tests.llm.real import needed
from tests.long import long


def test_attention_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = checkpoints.made("gemma3_text", tmp_path)
    ids = list(range(3, 3 + 61))
    with torch.inference_mode():
        expected = torch.cat(theirs(torch.tensor([ids]), output_attentions=True).attentions)
    found = heads.look(llm.load(tmp_path), ids)
    assert (found.attention - expected).abs().amax() < 1e-5  # shares of 1: some 20 roundings of 2^-24 a layer
    assert torch.allclose(found.attention.sum(-1), torch.ones(5, 6, 61), atol=1e-6)


def test_heads_that_look_alike_are_one_and_heads_that_never_meet_nothing() -> None:
    n = 7
    previous = torch.eye(n).roll(-1, dims=1).tril()
    previous[0, 0] = 1
    own = torch.eye(n)
    found = heads.likeness(torch.stack([previous, previous, own]))
    assert found == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_what_two_heads_park_on_the_first_token_can_be_left_out() -> None:
    n = 11
    first = torch.zeros(n, n)
    first[:, 0] = 0.9
    a, b = first + 0.1 * torch.eye(n), first + 0.1 * torch.eye(n).roll(-1, dims=1).tril()
    pair = torch.stack([a, b])
    assert heads.likeness(pair)[0, 1] == pytest.approx(0.9, abs=0.02)
    # row 2 is the first in which the previous token is not the first one
    assert heads.likeness(pair, without_first=True)[0, 1] < 0.01


def test_a_made_up_induction_head_is_found_and_its_chance_is_beside_it() -> None:
    pieces = ["a", "b", "c", "d", "e", "a", "b", "c", "(", "f", ")"]
    ids = [ord(piece) for piece in pieces]
    uniform = np.tril(np.ones((11, 11))) / np.arange(1, 12)[:, None]
    induction = uniform.copy()
    for t, back in ((5, 1), (6, 2), (7, 3)):
        induction[t] = 0
        induction[t, back] = 1
    scores = heads.score_roles([(ids, pieces)], [np.stack([[uniform, induction]])])
    found = scores["induction"]
    assert found["n_queries"] == 3
    assert found["score"][0][1] == 1
    assert found["score"][0][0] == pytest.approx(found["uniform"], abs=1e-4)
    assert found["uniform"] == pytest.approx((1 / 6 + 1 / 7 + 1 / 8) / 3, abs=1e-4)
    assert scores["duplicate"]["n_queries"] == 3
    assert scores["matching"]["n_queries"] == 1
    assert scores["previous"]["n_queries"] == scores["first"]["n_queries"] == 10


@long("the recorded roles are those of the real model")
@needed
def test_the_real_model_has_an_induction_head_on_a_repeated_phrase() -> None:
    found = heads.of_text(loaded.get(), " violet engines hum beneath marble arches" * 3)
    best = max(max(row) for row in found["roles"]["induction"]["score"])
    assert best > 0.5
    assert best > 3 * found["roles"]["induction"]["uniform"]
    assert len(found["likeness"]["within"]) == 30


@needed
def test_what_a_page_is_told_is_what_was_looked_at() -> None:
    model, told = loaded.get(), list[dict[str, Any]]()
    text = "naïve 🙂 café\nnaïve"
    heads.tell_of(model, text, 16, told.append, lambda: False)
    found = Looked().take_in([item for item in told if "kind" in item])
    ids = model.tokens.encode(text)
    seen = heads.look(model.model, ids)
    n = len(ids)
    assert next(iter(found.layers)) == 16
    assert len(found.layers) == 30
    packed = np.frombuffer(unpacked(found.layers[16]), np.uint8).reshape(9, -1)
    rows, columns = np.tril_indices(n)
    # stored in 255 steps of the root: half a step of at most 2 / 255
    assert np.abs((packed / 255) ** 2 - seen.attention[16].numpy()[:, rows, columns]).max() < 1 / 254
    best = int(seen.logits[3].argmax())
    assert found.predictions[3]["top"][0][0] == model.tokens.pieces([best])[0]
    assert found.predictions[-1]["next"] is None


@needed
@pytest.mark.parametrize("text", ["a", "word " * 300])
def test_a_text_of_another_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 3 to 256 tokens"):
        heads.of_text(loaded.get(), text)
    with pytest.raises(ValueError, match="from 3 to 256 tokens"):
        job.run({"text": text}, lambda item: None, lambda: False)
    with pytest.raises(ValueError, match="first_layer must"):
        job.run({"text": text, "first_layer": -1}, lambda item: None, lambda: False)
