"""The lecture: every state is a link that opens it, each leads to the next, and the code at its end opens the site."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import segno

from tests.long import short
from tests.pages.test_pages import assert_sound, open_page, said
from tests.pages.test_path import FILES
from ui.components import lecture, path

VIEWS = lecture.views()
EACH = [i for i, view in enumerate(VIEWS) if view.page in lecture.STEPS]


def test_the_lecture_goes_along_the_whole_path() -> None:
    pages = list(dict.fromkeys(view.page for view in VIEWS))
    assert pages == [stop.page for stop, _, _ in path.stops()] + [lecture.END]
    assert len({view.address for view in VIEWS}) == len(VIEWS) > len(pages)
    for at, view in enumerate(VIEWS):
        assert parse_qs(urlsplit(view.address).query)["present"] == ["true"]
        assert lecture.place(view.page, dict(view.query)) == at
    # a view that is not one of the lecture's still counts as being at its page
    assert VIEWS[lecture.place("why", {"batch": 3}) or 0].page == "why"
    assert lecture.place("accuracy", {}) is None


@pytest.mark.parametrize("at", short(EACH, EACH[1::3]))
def test_a_link_opens_its_state_without_the_list_of_pages(at: int) -> None:
    view = VIEWS[at]
    query = {key: values[0] for key, values in parse_qs(urlsplit(view.address).query).items()}
    page = open_page(FILES[view.page], **query)
    assert_sound(page)
    assert "could not be used" not in said(page)
    assert lecture.place(view.page, {key: page.session_state[key] for key, _ in view.query}) == at
    assert page.query_params["present"] in ("true", ["true"])
    assert not page.sidebar.children


def test_the_code_holds_the_address() -> None:
    address = "https://headshare.example/app/"
    kind, _, data = lecture.code(address).partition(",")
    assert kind.startswith("data:image/svg+xml")
    raw = base64.b64decode(data) if "base64" in kind else re.sub(r"%(..)", lambda x: chr(int(x[1], 16)), data).encode()
    drawn = ElementTree.fromstring(raw)
    paths = [element.attrib["d"] for element in drawn.iter() if element.tag.endswith("path")]
    # as many squares are dark in the drawing as in the code itself
    dark = sum(sum(row) for row in segno.make(address, error="m", micro=False).matrix)
    assert sum(int(n) for n in re.findall(r"h(\d+)", paths[-1])) == dark
    with pytest.raises(ValueError, match="data"):
        lecture.code("https://" + "a" * 5000)


def test_the_end_shows_the_address_that_the_operator_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_PUBLIC_URL", "https://headshare.example")
    page = open_page("pages/about.py", present="true")
    shown = " ".join(str(element.proto.body) for element in page.get("html"))
    assert "<b>https://headshare.example</b>" in shown
    assert lecture.code("https://headshare.example") in shown.replace("&amp;", "&")
    assert lecture.site("http://host:1/app/about") == "http://host:1/app/"
