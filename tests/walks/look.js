// The faults in how the page looks, as a list of sentences; it is empty if there is none. Runs in the page.
() => {
  const found = [];
  const main = document.querySelector("[data-testid=stMain]");
  if (!main) return ["there is no page"];
  const seen = (e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  };
  const say = (e) => (e.innerText || e.value || e.getAttribute("aria-label") || e.tagName).trim().slice(0, 60);
  const hidden = (e) => e.closest("[aria-hidden=true], .hs-hidden, [data-testid=stTooltipContent]");

  // sideways
  for (const e of [document.scrollingElement, main])
    if (e.scrollWidth > e.clientWidth + 1) found.push(`scrolls sideways: ${e.scrollWidth} in ${e.clientWidth}`);

  // a word on two lines
  const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("svg, style, script, pre, textarea") || !seen(parent) || hidden(parent)) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}]{2,}/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].filter((r) => r.width > 0).map((r) => Math.round(r.top)));
      if (lines.size > 1 && Math.max(...lines) - Math.min(...lines) > 4) {
        found.push(`broken inside a word: "${word[0].slice(0, 40)}" of "${say(parent)}"`);
        break;
      }
    }
  }

  // our own markup that was escaped by mistake
  for (const e of main.querySelectorAll("text, p, td, th, small, [data-testid=stMetricValue]"))
    if (/<\/?(b|br|i|span|su[bp])\b/i.test(e.textContent) && seen(e) && !e.closest("pre, code, textarea") && !e.querySelector("pre, code"))
      found.push(`markup is shown: "${e.textContent.trim().slice(0, 60)}"`);

  // cut: labels, numbers and choices whose text is wider than their box; a visitor's own text may be longer
  const cut = "[data-testid=stWidgetLabel] p, [data-testid=stMetricLabel] p, [data-testid=stMetricValue] > div, button p, " +
    "[data-baseweb=select] [value], [data-testid=stNumberInputField], h1, h2, h3";
  for (const e of main.querySelectorAll(cut)) {
    if (!seen(e) || hidden(e)) continue;
    for (let box = e; box && box !== main; box = box.parentElement) {
      const style = getComputedStyle(box);
      if (box.scrollWidth > box.clientWidth + 2 && box.clientWidth > 0 && (style.overflowX === "hidden" || box.tagName === "INPUT")) {
        if (box.type !== "text" || box === e) found.push(`cut: "${say(e)}" needs ${box.scrollWidth}, has ${box.clientWidth}`);
        break;
      }
      if (box.dataset.testid === "stElementContainer") break;
    }
  }

  // options that stand outside their row
  for (const row of main.querySelectorAll("[data-testid=stButtonGroup], [data-testid=stMultiSelectTagsContainer]")) {
    if (!seen(row)) continue;
    const room = row.getBoundingClientRect();
    for (const option of row.querySelectorAll("button, [role=radio], span[title]")) {
      const box = option.getBoundingClientRect();
      if (box.right > room.right + 2 || box.left < room.left - 2) found.push(`out of sight: option "${say(option)}" of "${say(row)}"`);
    }
  }

  // elements that overlap, unless one floats over the page, such as a list that a button has opened
  const layer = (e) => {
    for (let box = e.parentElement; box && box !== main; box = box.parentElement)
      if (["absolute", "fixed"].includes(getComputedStyle(box).position)) return box;
    return main;
  };
  const solid = [...main.querySelectorAll("[data-testid=stWidgetLabel] p, [data-testid=stMetric], button, input:not([type=range]), [data-testid=stCaptionContainer], h1, h2, h3, [data-testid=stAlert]")]
    .filter((e) => seen(e) && !hidden(e) && !e.closest("[data-baseweb=popover], [role=dialog], .modebar, [role=tooltip], [role=listbox]"));
  const boxes = solid.map((e) => [e, e.getBoundingClientRect()]);
  boxes: for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length; j++) {
      const [[a, x], [b, y]] = [boxes[i], boxes[j]];
      if (a.contains(b) || b.contains(a) || a.closest("[data-baseweb]")?.contains(b) || b.closest("[data-baseweb]")?.contains(a)) continue;
      if (a.closest("[data-testid=stElementContainer]")?.contains(b)) continue;
      const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
      const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
      if (wide > 3 && high > 3 && layer(a) === layer(b)) {
        found.push(`"${say(a)}" lies upon "${say(b)}" (${Math.round(wide)} × ${Math.round(high)})`);
        break boxes;
      }
    }

  // a measured time below its floor
  for (const e of main.querySelectorAll("[data-testid=stMetricLabel]")) {
    const floors = /([\d.]+)× floor/.exec(e.innerText);
    if (floors && parseFloat(floors[1]) > 0 && parseFloat(floors[1]) < 0.995) found.push(`below its floor: "${say(e)}"`);
  }
  return [...new Set(found)].slice(0, 6);
}
