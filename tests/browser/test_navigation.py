"""The list of pages: a click stays in the session, a new tab begins with this page's model, Back returns."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS, ready, visit


def link(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True)


def test_a_click_keeps_what_every_page_showed(app: str, page: Page) -> None:
    visit(page, f"{app}/kv_cache?v=1&model=Qwen%2FQwen3-8B&context=32768&batch=3&kv=fp8&k_tp=4")
    page.evaluate("window.neverLoadedAnew = true")
    expect(link(page, "KV cache")).to_have_attribute("aria-current", "page")

    link(page, "What fits").click()
    expect(page).to_have_title(re.compile("What fits"))
    expect(page).to_have_url(re.compile(r"/fit\?.*model=Qwen%2FQwen3-8B.*context=32768"))
    expect(link(page, "What fits")).to_have_attribute("aria-current", "page")
    expect(link(page, "KV cache")).not_to_have_attribute("aria-current", "page")

    link(page, "KV cache").click()
    expect(page).to_have_url(re.compile("/kv_cache.*k_tp=4"))
    page.go_back()
    expect(page).to_have_url(re.compile("/fit"))
    expect(page).to_have_title(re.compile("What fits"))
    assert page.evaluate("window.neverLoadedAnew"), "the page was loaded anew, which ends the session's jobs"


def test_a_link_clicked_twice_keeps_it_too(app: str, page: Page) -> None:
    """The second click ends the run of the first one before its end; the values that it had set are sent again."""
    visit(page, f"{app}/heads?v=1&model=Qwen%2FQwen3-8B&context=32768&batch=7&kv=fp8")
    page.evaluate("window.neverLoadedAnew = true")
    for name in ("KV cache", "What fits", "Why share?", "Decode step"):
        link(page, name).dblclick(delay=20)
        expect(page).to_have_title(re.compile(name.replace("?", "")))
        ready(page)
        expect(page).to_have_url(re.compile("context=32768&batch=7&kv=fp8"))
        for slider in page.locator(".st-key-context_pick").all():
            expect(slider).to_contain_text("32k")
        for box in page.locator(".st-key-batch input").all():
            expect(box).to_have_value("7")
    # click in a list that has just been drawn, before its script has run
    page.evaluate("""() => {
        const find = root => root.querySelector('nav.hs-pages') ??
            [...root.querySelectorAll('*')].filter(e => e.shadowRoot).map(e => find(e.shadowRoot)).find(Boolean);
        const list = find(document);
        const copy = list.cloneNode(true);
        list.replaceWith(copy);
        copy.querySelector('[data-page=compare]').click();
    }""")
    expect(page).to_have_url(re.compile("/compare.*context=32768"))
    assert page.evaluate("window.neverLoadedAnew")


def test_a_new_tab_begins_with_this_page_s_model(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page()
    visit(page, f"{app}/kv_cache?v=1&model=Qwen%2FQwen3-8B&context=32768&batch=1&kv=bf16")
    with page.context.expect_page() as opened:
        link(page, "Compare").hover()
        link(page, "Compare").click(modifiers=["ControlOrMeta"])
    tab = ready(opened.value)
    expect(tab).to_have_url(re.compile(r"/compare\?.*context=32768"))
    expect(page).to_have_title(re.compile("KV cache"))
    # the first page has the root address
    expect(link(tab, "Explore")).to_have_js_property("pathname", "/")


def test_on_a_phone_the_list_leaves_the_page_it_opened(app: str, new_page: Callable[..., Page]) -> None:
    page = visit(new_page(viewport={"width": 390, "height": 844}, has_touch=True), f"{app}/heads")
    page.get_by_test_id("stExpandSidebarButton").click()
    link(page, "Roofline").tap()
    expect(page).to_have_title(re.compile("Roofline"), timeout=PATIENCE_MS)
    expect(link(page, "Roofline")).not_to_be_in_viewport()


def test_by_keyboard(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page()  # where the focus begins is the browser's
    visit(page, f"{app}/heads")
    for _ in range(20):
        page.keyboard.press("Tab")
        if link(page, "Why share?").evaluate("e => e === document.activeElement"):
            break
    assert link(page, "Why share?").evaluate("e => e.matches(':focus-visible')")
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile("Why share"))
    # the focus stays on the link that the reader used
    expect(link(page, "Why share?")).to_be_focused()
