"""The path: one list of all pages except those for looking things up. Each link opens the view that it promises."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.pages.test_pages import assert_sound, open_page, said
from ui.components import path
from ui.components.navigation import NAVIGATION, ROOT

FILES = {key: file for _, entries in NAVIGATION for key, file, _ in entries if (ROOT / file).exists()}


def test_every_page_is_on_the_path_or_said_to_stand_aside() -> None:
    on_path = [stop.page for stop in path.PATH]
    assert len(set(on_path)) == len(on_path)
    assert set(FILES) <= {*on_path, *path.ASIDE}
    assert not set(on_path) & set(path.ASIDE)
    assert [stop.page for stop, _, _ in path.stops()] == [page for page in on_path if page in FILES]


def test_back_and_next_are_each_other_s_inverse_from_end_to_end() -> None:
    walked = [0]
    while (following := path.neighbours(path.stops()[walked[-1]][0].page)[1]) is not None:
        assert path.neighbours(path.stops()[following][0].page)[0] == walked[-1]
        walked.append(following)
    assert walked == list(range(len(path.stops())))
    assert path.neighbours("about") == (None, None)


@pytest.mark.parametrize("place", range(len(path.stops())))
def test_a_link_opens_the_view_it_promises(place: int) -> None:
    stop, _, address = path.stops()[place]
    query = parse_qs(urlsplit(address).query)
    at = open_page(FILES[stop.page], **query)
    assert_sound(at)
    assert "could not be used" not in said(at)
    assert not at.warning, said(at)
    # nothing of it is lost: the page writes the same back
    for key, (value,) in query.items():
        assert at.query_params[key] in (value, [value])
