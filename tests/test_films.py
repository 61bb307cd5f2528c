"""README's films: a film shows what the browser drew at its real speed, and those in docs/ are as small as promised."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.test_hosting import ROOT, script

films = script("films")


def frame(at_s: float, grey: int) -> object:
    return films.Frame(at_s, Image.new("RGB", (31, 17), (grey, grey, grey)))


def test_frames_that_differ_stay_as_long_as_they_did() -> None:
    # the second equals the first; the fourth follows the third so soon that it replaces it
    drawn = [frame(1.0, 0), frame(1.2, 0), frame(1.5, 99), frame(1.51, 150), frame(3.0, 250)]
    pictures, stay_ms = films.told_apart(drawn)
    assert [picture.getpixel((0, 0))[0] for picture in pictures] == [0, 150, 250]
    assert stay_ms == [500, 1500, films.HOLD_MS]
    made = Image.open(io.BytesIO(films.webp(drawn)))
    assert (made.format, getattr(made, "n_frames", 1), made.size) == ("WEBP", 3, (31, 17))
    with pytest.raises(ValueError, match="no frames"):
        films.told_apart([])


@pytest.mark.parametrize("film", films.FILMS, ids=lambda film: film.name)
def test_readme_shows_a_film_of_at_most_three_megabytes(film: Any) -> None:
    path = ROOT / "docs" / film.name
    assert f"(docs/{path.name})" in (ROOT / "README.md").read_text()
    assert path.stat().st_size <= films.MOST_BYTES == 3_000_000
    with Image.open(path) as shown:
        assert shown.size == (film.width, film.height)
        assert getattr(shown, "n_frames", 1) > 20
