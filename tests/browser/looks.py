"""Checks of how a whole page looks, as JavaScript that describes each fault.

``findings(page)`` gives a line for each fault. Parts of a page in shadow roots are checked too.
"""

# ruff: noqa: E501  (the JavaScript reads better with its lines whole)

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page

MOST_SHIFT = 0.1
"""The largest cumulative layout shift that counts as good (web.dev/articles/cls)."""

_WALK = r"""
const broken = [], cut = [], over = [], marked = [], texts = [];
const main = document.querySelector('[data-testid=stMain]');
const trees = root => [root, ...[...root.querySelectorAll('*')].filter(e => e.shadowRoot).flatMap(e => trees(e.shadowRoot))];
// Chromium says that an element of a drawing is visible even if it is not drawn
const shown = e => getComputedStyle(e.closest('.annotation, .textpoint') ?? e).display !== 'none' && e.checkVisibility({opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true});
const brief = text => text.trim().replace(/\s+/g, ' ').slice(0, 48);
const parentOf = e => e.parentElement || (e.getRootNode().host ?? null);
// the part of a box that scrolling and clipping ancestors leave visible
const seen = (e, r) => {
  let box = {left: r.left, top: r.top, right: r.right, bottom: r.bottom};
  for (let p = parentOf(e); p && p !== main; p = parentOf(p)) {
    const style = getComputedStyle(p);
    if (style.overflowX === 'visible' && style.overflowY === 'visible' || p instanceof SVGElement) continue;
    const b = p.getBoundingClientRect();
    box = {left: Math.max(box.left, b.left), top: Math.max(box.top, b.top), right: Math.min(box.right, b.right), bottom: Math.min(box.bottom, b.bottom)};
  }
  return box.right - box.left > 1 && box.bottom - box.top > 1 ? box : null;
};
const aslant = e => e instanceof SVGElement && (/rotate\((?!0[,)])/.test(e.getAttribute('transform')) || main.clientWidth < 360 && e.closest('.js-plotly-plot'));
const SKIPPED = 'script, style, noscript, canvas, [aria-hidden=true], [data-testid=stTooltipContent], .hs-spoken';
for (const root of trees(main)) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.data.trim() || !e || e.closest(SKIPPED) || !shown(e)) continue;
    // our own markup that was escaped by mistake; code may contain markup
    if (/<\/?(a|b|br|i|span|su[bp])\b/i.test(node.data) && !e.closest('pre, code, textarea')) marked.push(brief(node.data));
    const range = document.createRange();
    // a word may break after a hyphen or a slash, as in print
    for (const found of e instanceof SVGElement ? [] : node.data.matchAll(/[^\s\-‐–—\/_·.,()]+/g)) {
      range.setStart(node, found.index); range.setEnd(node, found.index + found[0].length);
      const lines = [...range.getClientRects()].filter(r => r.width > 0.5);
      if (lines.length > 1 && lines.some(r => r.top > lines[0].top + lines[0].height * 0.6)) broken.push(found[0] + ' in “' + brief(node.data) + '”');
    }
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      const box = r.width > 1 && seen(e, r);
      // rotated letters fill only a little of the box around them
      if (box && !aslant(e)) texts.push({e, box, text: brief(node.data)});
    }
  }
  for (const e of root.querySelectorAll('*')) {
    if (!shown(e) || e.closest(SKIPPED)) continue;
    const style = getComputedStyle(e);
    if (style.textOverflow === 'ellipsis' && e.scrollWidth > e.clientWidth + 1) cut.push(brief(e.innerText || e.value || e.tagName));
    // a field that fills a whole row cannot be wider
    else if (e.matches('input[type=text], input[role=combobox], input:not([type])') && e.scrollWidth > e.clientWidth + 1
             && e.getBoundingClientRect().width < 0.7 * main.clientWidth) cut.push(brief(e.value || e.placeholder));
  }
}
texts.sort((a, b) => a.box.top - b.box.top);
for (let i = 0; i < texts.length; i += 1)
  for (let j = i + 1; j < texts.length && texts[j].box.top < texts[i].box.bottom; j += 1) {
    const [a, b] = [texts[i], texts[j]];
    if (a.e === b.e || a.e.contains(b.e) || b.e.contains(a.e)) continue;
    const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    if (across > 2 && down > Math.min(6, 0.4 * Math.min(a.box.bottom - a.box.top, b.box.bottom - b.box.top))) over.push('“' + a.text + '” and “' + b.text + '”');
  }
"""
"""Collects `broken` (words over two lines), `cut` (texts that end in an ellipsis), `over` (texts that overlap) and
`marked` (texts that show markup)."""

_SIDEWAYS = """
const wide = [document.scrollingElement, main, ...trees(main).flatMap(root => [...root.querySelectorAll('[role=radiogroup], [data-testid=stMultiSelectTagsContainer]')])]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && (e === document.scrollingElement || shown(e)))
  .map(e => `${e.dataset.testid || e.tagName.toLowerCase()} ${e.scrollWidth} in ${e.clientWidth}`);
// the right edge of the page, without its own scroll bar
const edge = main.getBoundingClientRect().left + main.clientWidth;
"""

FINDINGS = f"""() => {{
{_WALK}
{_SIDEWAYS}
const lines = (what, found) => [...new Set(found)].slice(0, 8).map(one => what + one);
return [...lines('broken inside a word: ', broken), ...lines('cut off: ', cut), ...lines('on one another: ', over),
        ...lines('markup is shown: ', marked),
        ...lines('wider than what is seen of it: ', wide)];
}}"""

WATCH_SHIFTS = """
window.headshareShifts = [];
const describe = node => {
  const e = node?.nodeType === 1 ? node : node?.parentElement;
  const near = e?.closest('[class*=st-key-], [data-testid]');
  return near ? ([...near.classList].find(c => c.startsWith('st-key-')) || near.dataset.testid) : e?.tagName || 'gone';
};
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.headshareShifts.push({
    value: entry.value, at: Math.round(entry.startTime),
    what: entry.sources.map(s => `${describe(s.node)} ${Math.round(s.previousRect.x)},${Math.round(s.previousRect.y)} ${Math.round(s.previousRect.width)}×${Math.round(s.previousRect.height)} → ${Math.round(s.currentRect.x)},${Math.round(s.currentRect.y)} ${Math.round(s.currentRect.width)}×${Math.round(s.currentRect.height)}`).slice(0, 4),
  });
}).observe({type: 'layout-shift', buffered: true});
"""


def findings(page: Page) -> list[str]:
    """A line for each broken word, each text that is cut off, overlaps another or shows markup, and each box that is too
    wide."""
    return list(page.evaluate(FINDINGS))


def watch_shifts(context: BrowserContext) -> None:
    """From now on record the layout shifts of every page that is opened in the context."""
    context.add_init_script(WATCH_SHIFTS)


def shifts(page: Page) -> tuple[float, list[str]]:
    """(cumulative layout shift since the page was opened, a line for each shift, the largest first)."""
    seen = page.evaluate("() => window.headshareShifts")
    lines = [f"{s['value']:.3f} at {s['at']} ms: {'; '.join(s['what'])}" for s in seen if s["value"] > 0.002]
    return sum(s["value"] for s in seen), sorted(lines, reverse=True)


STILL = """() => {
  const main = document.querySelector('[data-testid=stMain]');
  const boxes = [...main.querySelectorAll('.stElementContainer, .stPlotlyChart .main-svg, .stPlotlyChart text')];
  const now = boxes.map(e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round).join(); }).join(' ');
  const then = window.headshareStill ?? {};
  if (then.now !== now) window.headshareStill = {now, since: performance.now()};
  const arriving = document.documentElement.matches('.hs-arriving') || document.querySelector('[data-testid=stSkeleton]');
  return !arriving && performance.now() - window.headshareStill.since > 600;
}"""


def at_rest(page: Page) -> None:
    """Wait until nothing on the page has moved for 0.6 s, after it was opened or its width was changed."""
    page.evaluate("() => { window.headshareStill = {}; }")
    page.wait_for_function(STILL, polling=150, timeout=120_000)


def watch_console(page: Page) -> list[str]:
    """A list that collects, from now on, the errors and warnings of the page's console and every failed request."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("response", lambda answer: said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    return said
