"""The search finds models by names as people write them, and the field always shows the page's model."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from attention.catalog import published
from tests.browser.conftest import assert_sound, go_back, ready, visit

FOUND = {
    # Hub ids, with and without the organisation, and ids of variants
    "Qwen3-32B": "Qwen3 32B",
    "gpt-oss-120b": "gpt-oss 120B",
    "openai/gpt-oss-20b": "gpt-oss 20B",
    "Llama-3.1-70B": "Llama 3.1 70B",
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "Llama 3.1 70B",
    "unsloth/Llama-3.1-8B-Instruct": "Llama 3.1 8B",
    "deepseek-ai/DeepSeek-V3": "DeepSeek-V3",
    "mistralai/Mistral-7B-Instruct-v0.2": "Mistral 7B v0.2",
    "Qwen3-32B-Chat": "Qwen3 32B",
    # loose spelling: case, hyphens, spaces, order of words, joined words, unfinished words, a typing error
    "gpt oss": "gpt-oss 20B",
    "GPT OSS 120B": "gpt-oss 120B",
    "gptoss": "gpt-oss 20B",
    "deepseek r1": "DeepSeek-R1",
    "deepseek v3": "DeepSeek-V3",
    "falcon 40b": "Falcon 40B",
    "40b falcon": "Falcon 40B",
    "falcon40b": "Falcon 40B",
    "mistral 7b": "Mistral 7B v0.1",
    "llama 3.1 8b": "Llama 3.1 8B",
    "70b llama 3.1": "Llama 3.1 70B",
    "llama 3.1 7": "Llama 3.1 70B",
    "qwen3 32": "Qwen3 32B",
    "  LLAMA   2   7B ": "Llama 2 7B",
    "lama 3.1 8b": "Llama 3.1 8B",
    "deepsek v3": "DeepSeek-V3",
}
"""Typed text -> the label that comes first."""

KINDS = {
    "MQA": "MQA",
    "mla": "MLA",
    "MHA": "MHA",
    "GQA-8": "GQA-8",
    "mqa falcon": "MQA",
}
"""Typed text -> the sharing of the model that comes first."""


def field(page: Page, key: str = "model") -> Locator:
    return page.locator(f".st-key-{key} input").first


def options(page: Page) -> list[str]:
    return [str(text) for text in page.locator("[role=option] b").all_text_contents()]


def test_names_as_people_write_them(app: str, page: Page) -> None:
    visit(page, app)
    box = field(page)
    box.click()
    wrong = {}
    for typed, label in FOUND.items():
        box.fill(typed)
        if options(page)[:1] != [label]:
            wrong[typed] = options(page)[:3]
    assert not wrong
    for typed, sharing in KINDS.items():
        box.fill(typed)
        assert sharing in page.locator("[role=option] small").all_text_contents()[0], typed
    box.fill("gemma")
    assert {published.model(name).family for name in options(page)} == {"Gemma"}


def test_every_model_is_found_by_its_label_its_id_and_its_other_names(app: str, page: Page) -> None:
    visit(page, app)
    field(page).click()
    names = {
        name: row.label for row in published.models() for name in (row.label, row.id, row.id.lower(), *row.aliases)
    }
    first = page.locator(".st-key-model").evaluate(
        """(key, names) => {
            const root = key.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot
                || [...key.querySelectorAll('*')].find(e => e.shadowRoot).shadowRoot;
            const input = root.querySelector('input');
            return names.map(name => {
                input.value = name;
                input.dispatchEvent(new Event('input'));
                return root.querySelector('[role=option] b').textContent;
            });
        }""",
        list(names),
    )
    wrong = {name: (found, label) for (name, label), found in zip(names.items(), first, strict=True) if found != label}
    assert not wrong


def test_what_finds_nothing_says_so_and_does_not_stay(app: str, page: Page) -> None:
    visit(page, app)
    box = field(page)
    box.click()
    box.fill("no such model")
    refusal = "No published model is found by “no such model”. The page still shows Llama 3.1 8B."
    expect(page.get_by_text(refusal)).to_have_count(2)
    assert options(page) == ["Type sizes …", "Paste config.json …"]
    box.press("Enter")
    expect(box).to_have_value("Llama 3.1 8B")
    box.fill("qwen")
    page.locator("h1").click()
    expect(box).to_have_value("Llama 3.1 8B")
    box.fill("qwen")
    box.press("Escape")
    expect(box).to_have_value("Llama 3.1 8B")
    expect(page).to_have_url(re.compile("Llama-3.1-8B"))
    # the choices that remain can be used
    box.fill("no such model")
    page.get_by_role("option", name="Paste config.json …").click()
    expect(page.locator(".st-key-config_text textarea")).to_be_visible()
    expect(box).to_have_value("Paste config.json …")
    assert_sound(page)


def test_the_field_follows_the_page_in_any_order(app: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, f"{app}/kv_cache")
    box = field(page)
    box.click()
    box.fill("gpt oss 120")
    box.press("Enter")
    expect(box).to_have_value("gpt-oss 120B")
    expect(page).to_have_url(re.compile("gpt-oss-120b"))
    ready(page)
    box.click()
    box.fill("MLA")
    panel = page.locator("[role=listbox]").bounding_box()
    assert panel is not None
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= 390
    box.press("ArrowDown")
    second = options(page)[1]
    box.press("Enter")
    expect(box).to_have_value(second)
    expect(page).not_to_have_url(re.compile("gpt-oss"))
    ready(page)
    go_back(page)
    expect(box).to_have_value("gpt-oss 120B")
    go_back(page)
    expect(box).to_have_value("Llama 3.1 8B")
    page.reload()
    expect(box).to_have_value("Llama 3.1 8B")
    assert_sound(page)


def test_the_field_is_a_combobox(app: str, page: Page) -> None:
    visit(page, app)
    box = page.get_by_role("combobox", name="Model", exact=True)
    expect(box).to_have_attribute("aria-expanded", "false")
    box.focus()
    box.press("ArrowDown")
    expect(box).to_have_attribute("aria-expanded", "true")
    selected = page.get_by_role("option", selected=True)
    expect(selected).to_contain_text("Llama 3.1 8B")
    active = box.get_attribute("aria-activedescendant")
    assert selected.get_attribute("id") == active
    box.press("Escape")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.fill("falcon 40b")
    expect(page.locator(".st-key-model [role=status]")).to_contain_text("found, first Falcon 40B")


def test_models_are_added_and_taken_out_on_compare(app: str, page: Page) -> None:
    visit(page, f"{app}/compare?cmp=meta-llama/Llama-3.1-8B")
    box = field(page, "cmp")
    box.click()
    box.fill("gpt-oss-120b")
    box.press("Enter")
    expect(page).to_have_url(re.compile("cmp=openai%2Fgpt-oss-120b"))
    box.fill("qwen3 32b")
    box.press("Enter")
    expect(page).to_have_url(re.compile("cmp=Qwen%2FQwen3-32B"))
    chips = page.locator(".st-key-cmp .chip span")
    expect(chips).to_have_text(["Llama 3.1 8B", "gpt-oss 120B", "Qwen3 32B"])
    # take out two models, the second before the page has answered
    page.get_by_role("button", name="Take out Llama 3.1 8B").click()
    page.get_by_role("button", name="Take out Qwen3 32B").click()
    expect(page).to_have_url(re.compile(r"cmp=openai%2Fgpt-oss-120b(?!.*cmp=)"))
    expect(chips).to_have_text(["gpt-oss 120B"])
    box.press("Backspace")
    expect(chips).to_have_count(0)
    expect(page).to_have_url(re.compile("cmp=$"))
    ready(page)
    go_back(page)
    expect(chips).to_have_text(["gpt-oss 120B"])
    assert_sound(page)


def test_a_model_with_its_own_settings_is_found_under_more(app: str, page: Page) -> None:
    visit(page, f"{app}/compare?cmp=meta-llama/Llama-3.1-8B")
    page.locator(".st-key-more summary").click()
    box = field(page, "cmp_add_model")
    box.click()
    box.fill("deepseek r1")
    box.press("Enter")
    expect(box).to_have_value("DeepSeek-R1")
    ready(page)
    page.get_by_role("button", name="Add column").click()
    expect(page).to_have_url(re.compile("DeepSeek-R1~fp8"))
    expect(page.locator(".st-key-cmp .chip span")).to_have_text(["Llama 3.1 8B", "DeepSeek-R1 · fp8"])
    assert_sound(page)
