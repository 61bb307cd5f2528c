"""A visitor's text, cut, cleaned and drawn byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from attention.tiny.numpy_forward import Maps
from attention.tiny.text import (
    EXAMPLES,
    MAX_BYTES,
    Cleaned,
    clean,
    glyphs,
    held_out_sample,
    pack,
    predictions,
)


def test_examples_fit_and_are_kept_as_written() -> None:
    for name, text in EXAMPLES.items():
        assert clean(text) == Cleaned(text.encode()), name
        compile(text.replace("return max", "_ = max"), name, "exec")


@pytest.mark.parametrize("typed", ["", "   ", "\n\t\n", "\x00\x07\x1b", "\ud800" * 0])
def test_nothing_is_refused_with_a_word(typed: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        clean(typed)


def test_far_too_much_is_refused_and_a_little_too_much_is_cut() -> None:
    with pytest.raises(ValueError, match="10,000 characters"):
        clean("x" * 10_000)
    cut = clean("y" * 300)
    assert cut.text == b"y" * MAX_BYTES
    assert "only the first 256 of 300 bytes" in cut.note


def test_characters_stay_whole() -> None:
    cut = clean("🙂" * 100 + "é")
    assert cut.text == ("🙂" * 64).encode()
    assert clean("a" + "🙂" * 100).text.decode() == "a" + "🙂" * 63


def test_control_characters_and_broken_text() -> None:
    assert clean("a\x00b\x1b[31mc\r\nd\te").text == b"ab[31mc\nd\te"
    assert clean("bad \ud800 half").text == b"bad ? half"
    assert clean("\ufffd\ufffd x").text == "\ufffd\ufffd x".encode()


def test_any_byte_has_a_glyph() -> None:
    found = glyphs(bytes(range(256)))
    assert all(found)
    assert found[10] == "↵"
    assert found[65] == "A"
    assert found[200] == "c8"


def test_held_out_sample_is_held_out() -> None:
    from attention.tiny.corpus import load_corpus

    name, text = held_out_sample()
    file = next(f for f in load_corpus().held_out if f.name == name)
    assert text in file.text
    assert len(text) == MAX_BYTES


def test_packing_keeps_the_lower_triangle_in_order() -> None:
    import base64

    attention = np.zeros((2, 3, 3), dtype=np.float32)
    attention[0, 2, 1], attention[1, 1, 1] = 1.0, 0.25
    raw = np.frombuffer(base64.b64decode(pack(attention)), dtype=np.uint8).reshape(2, 6)
    assert raw.tolist() == [[0, 0, 0, 0, 255, 0], [0, 0, 128, 0, 0, 0]]


def test_predictions_and_loss_by_hand() -> None:
    logs = np.full((2, 256), np.log(0.1 / 254))
    logs[0, ord("b")], logs[0, ord("x")] = np.log(0.3), np.log(0.6)
    found = predictions(Maps(np.zeros((1, 1, 2, 2)), logs), b"ab", 2)
    assert found[0] == {"top": [["“x”", 0.6], ["“b”", 0.3]], "next": ["“b”", 0.3]}
    assert found[1]["next"] is None
