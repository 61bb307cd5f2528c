// Shows what a word means beside it. The page's text belongs to Streamlit, so no element is put around a word: the
// browser's own highlights mark the words, and a word under the pointer is found by its position in the text.

const WAIT_MS = 250; // a pointer that only passes over a word opens nothing
const MARK_MS = 500; // the text is searched when it has not changed for so long,
const LATEST_MS = 2000; // and at the latest so long after a change: a page with an animation changes all the time
const IN_TEXT = "[data-testid=stMarkdownContainer] :is(p, li), [data-testid=stCaptionContainer] p";
const page = { list: null, card: null, known: {}, pattern: null, shown: null, timer: 0, marking: 0, changed: 0, marks: null };

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");

/** The word around this place of a text node, or null. */
function wordAt(node, offset) {
  if (!page.pattern || !node || node.nodeType !== Node.TEXT_NODE) return null;
  for (const found of node.data.matchAll(page.pattern))
    if (found.index <= offset && offset <= found.index + found[0].length) return found;
  return null;
}

function under(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y) ?? document.caretRangeFromPoint?.(x, y);
  if (!caret) return null;
  const node = caret.offsetNode ?? caret.startContainer;
  if (!node.parentElement?.closest("[data-testid=stMain]") || node.parentElement.closest("a, button, input, .hs-path")) return null;
  const word = wordAt(node, caret.offset ?? caret.startOffset);
  if (!word) return null;
  const range = document.createRange();
  range.setStart(node, word.index);
  range.setEnd(node, word.index + word[0].length);
  const box = range.getBoundingClientRect();
  // the browser also gives the nearest position in a text if the pointer is beside the text
  return x < box.left - 2 || x > box.right + 2 || y < box.top - 2 || y > box.bottom + 2 ? null : { word: word[0], box };
}

function show(word, box) {
  const [short, long, says] = page.known[word] ?? [];
  if (!short || !page.card) return;
  const name = document.createElement("b");
  name.textContent = long ? `${short}: ${long}. ` : `${short}. `;
  page.card.replaceChildren(name, says);
  page.card.hidden = false;
  page.shown = word;
  const { width, height } = page.card.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), window.innerWidth - width - 8);
  const below = box.bottom + 6;
  page.card.style.left = `${left}px`;
  page.card.style.top = `${below + height > window.innerHeight ? box.top - height - 6 : below}px`;
}

function hide() {
  clearTimeout(page.timer);
  if (page.card) page.card.hidden = true;
  page.shown = null;
}

function mark() {
  page.marking = 0;
  page.changed = 0;
  if (!window.Highlight || !CSS.highlights) return;
  const ranges = [];
  const left = new Set(Object.keys(page.known));
  for (const block of document.querySelectorAll(`[data-testid=stMain] :is(${IN_TEXT})`)) {
    if (!left.size) break;
    const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      if (node.parentElement.closest("a, button, code, label")) continue;
      for (const found of node.data.matchAll(page.pattern)) {
        // mark each word only once: many dotted words make a page harder to read
        if (!left.delete(found[0])) continue;
        const range = document.createRange();
        range.setStart(node, found.index);
        range.setEnd(node, found.index + found[0].length);
        ranges.push(range);
      }
    }
  }
  page.marks = new Highlight(...ranges);
  CSS.highlights.set("hs-word", page.marks);
}

/** Removes the marks whose text has gone or is not one of the page's words any more. */
function dropStale() {
  for (const range of [...(page.marks ?? [])])
    if (!range.startContainer.isConnected || !(range.toString() in page.known)) page.marks.delete(range);
}

function markSoon() {
  dropStale();
  clearTimeout(page.marking);
  const now = performance.now();
  page.changed = page.changed || now;
  const wait = Math.min(MARK_MS, Math.max(0, page.changed + LATEST_MS - now));
  // near the limit it does not wait for the browser to be idle, because that may never happen
  const idle = (then) => (wait < MARK_MS || !window.requestIdleCallback ? then() : requestIdleCallback(then, { timeout: MARK_MS }));
  page.marking = setTimeout(() => idle(mark), wait);
}

document.addEventListener("pointermove", (event) => {
  clearTimeout(page.timer);
  if (event.pointerType === "touch") return;
  const over = event.target.closest?.(".hs-words [data-word]");
  if (over) {
    if (page.shown !== over.dataset.word) show(over.dataset.word, over.getBoundingClientRect());
    return;
  }
  if (page.shown && document.activeElement?.closest?.(".hs-words") === null) hide();
  page.timer = setTimeout(() => {
    const found = under(event.clientX, event.clientY);
    if (found) show(found.word, found.box);
  }, WAIT_MS);
}, { passive: true });
document.addEventListener("click", (event) => {
  const over = event.target.closest?.(".hs-words [data-word]");
  if (over) return show(over.dataset.word, over.getBoundingClientRect());
  const found = under(event.clientX, event.clientY);
  if (found) show(found.word, found.box);
  else hide();
});
document.addEventListener("scroll", hide, { passive: true, capture: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

export default function ({ parentElement, data }) {
  const list = parentElement.querySelector(".hs-words");
  page.card = parentElement.querySelector(".hs-word");
  const shown = JSON.stringify(data.items);
  if (list.shown !== shown) {
    list.shown = shown;
    const words = data.items.map(([short, long, quiet]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.word = short;
      button.hidden = quiet;
      const name = document.createElement("b");
      name.textContent = short;
      button.append(name, long ? ` ${long}` : "");
      return button;
    });
    const waiting = words.filter((word) => word.hidden);
    const others = document.createElement("button");
    others.type = "button";
    others.className = "others";
    others.textContent = `+ ${waiting.length} plain ${waiting.length === 1 ? "word" : "words"}`;
    others.onclick = () => {
      for (const word of waiting) word.hidden = false;
      others.remove();
      waiting[0].focus();
    };
    list.replaceChildren(...words, ...(waiting.length ? [others] : []));
    page.known = data.known;
    parentElement.querySelector(".hs-words-paper").textContent = words.map((word) => word.textContent).join(" · ");
    const forms = Object.keys(data.known).sort((a, b) => b.length - a.length).map(escape);
    page.pattern = new RegExp(`(?<![\\w/-])(?:${forms.join("|")})(?![\\w/])`, "g");
    for (const word of words) {
      word.setAttribute("aria-describedby", "hs-word");
      word.onfocus = () => { if (word.matches(":focus-visible")) show(word.dataset.word, word.getBoundingClientRect()); };
      word.onblur = hide;
    }
    hide();
  }
  page.watch?.disconnect();
  page.watch = new MutationObserver(markSoon);
  const main = document.querySelector("[data-testid=stMain]");
  if (main) page.watch.observe(main, { childList: true, subtree: true, characterData: true });
  markSoon();
}
