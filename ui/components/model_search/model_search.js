// A combobox over the catalogue. When nobody searches, its text is the model that the page shows: the text of a search
// that found nothing, or that was left, is removed.

const views = new WeakMap();
const SHOWN = 80; // rows of a search; nobody reads more
const NOISE = new Set(["instruct", "chat", "base", "hf", "it", "pt", "fp", "bf", "awq", "gptq", "gguf", "model", "models", "llm"]);
const TOKEN = /\d+(?:\.\d+)?(?:x\d+)?[bmk](?![a-z])|\d+(?:\.\d+)?|[a-z]+/g;

const plain = (text) => text.normalize("NFKD").toLowerCase();
const tokens = (text) => plain(text).match(TOKEN) || [];
const compact = (text) => plain(text).replace(/[^a-z0-9.]/g, "");
const isNumber = (token) => token[0] >= "0" && token[0] <= "9";

function prepare([id, label, names, words, sharing], index) {
  const spelled = [id, ...names];
  return {
    id, label, sharing, index, names: spelled,
    fields: [tokens(label), spelled.flatMap(tokens), tokens(words)],
    whole: new Set([label, ...spelled, ...spelled.map((name) => name.split("/").pop())].map(compact)),
    run: [label, ...spelled].map(compact).join(" "),
  };
}

function near(a, b) { // one letter more, one fewer, one different, or two neighbours exchanged
  if (Math.abs(a.length - b.length) > 1) return false;
  let i = 0;
  while (i < a.length && a[i] === b[i]) i += 1;
  const rest = [a.slice(i), b.slice(i)];
  return rest[0].slice(1) === rest[1].slice(1) || rest[0].slice(1) === rest[1] || rest[0] === rest[1].slice(1)
    || (rest[0][0] === rest[1][1] && rest[0][1] === rest[1][0] && rest[0].slice(2) === rest[1].slice(2));
}

function cost(token, row, last, loose) {
  let best = Infinity;
  row.fields.forEach((field, f) => {
    for (const own of field) {
      if (own === token) best = Math.min(best, f);
      else if (isNumber(token)) {
        // "3" matches "3.1"; as the last token, which may not be complete, it also matches "32b"
        if (own.startsWith(`${token}.`) || (last && own.startsWith(token))) best = Math.min(best, f + 0.5);
      } else if (own.startsWith(token)) best = Math.min(best, f + 0.5);
      else if (loose && token.length > 3 && near(token, own)) best = Math.min(best, f + 2);
    }
  });
  if (best === Infinity && token.length > 3 && !isNumber(token) && row.run.includes(token)) best = 3.5;
  return best;
}

function search(rows, asked, loose) {
  const wanted = [...new Set(tokens(asked))];
  if (!wanted.length) return [];
  const whole = compact(asked);
  const found = [];
  for (const row of rows) {
    let sum = row.whole.has(whole) ? -10 : 0;
    wanted.forEach((token, i) => { sum += cost(token, row, i === wanted.length - 1, loose); });
    // every further word of the label counts against it
    if (sum < Infinity) found.push([sum + 0.1 * row.fields[0].filter((own) => !wanted.includes(own)).length, row]);
  }
  return found.sort((a, b) => a[0] - b[0] || a[1].index - b[1].index).map(([, row]) => row);
}

// Models that `asked` names, best first; [] if there are none, also without the words of NOISE and with near spellings.
function find(rows, asked) {
  const tail = asked.split("/").pop();
  const bare = tokens(tail).filter((token) => !NOISE.has(token)).join(" ");
  for (const [text, loose] of [[asked, false], [tail, false], [bare, false], [tail, true], [bare, true]]) {
    const found = search(rows, text, loose);
    if (found.length) return found;
  }
  return [];
}

function make(root) {
  const part = (name) => root.querySelector(`.${name}`);
  const view = {
    box: part("box"), input: part("query"), chips: part("chips"), panel: part("panel"), list: part("list"),
    nothing: part("nothing"), said: part("said"), label: part("label"),
    open: false, active: -1, options: [], sent: 0, values: [],
  };
  view.input.addEventListener("input", () => show(view));
  view.input.addEventListener("focus", () => view.input.select());
  view.input.addEventListener("blur", () => close(view));
  view.input.addEventListener("keydown", (event) => onKey(view, event));
  view.box.addEventListener("mousedown", (event) => {
    if (event.target.closest("button")) return;
    if (event.target !== view.input) event.preventDefault();
    view.input.focus();
    if (view.open && event.target !== view.input) close(view);
    else if (!view.open) show(view, true);
  });
  view.list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  view.panel.addEventListener("mousedown", (event) => event.preventDefault());
  view.list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) pick(view, view.options[Number(item.dataset.at)]);
  });
  return view;
}

const many = (view) => view.data.most !== undefined;
const full = (view) => many(view) && view.values.length >= view.data.most;

function labelOf(view, value) {
  const other = view.data.others.find(([own]) => own === value);
  return other ? other[1] : (view.byId.get(value)?.label ?? value);
}

function settle(view) { // set the text of the field when nobody searches
  view.input.value = many(view) ? "" : labelOf(view, view.values[0]);
  view.input.placeholder = many(view) ? "Add a model: name, Hub id, MQA, MLA …" : "Name, Hub id, MQA, MLA …";
}

function show(view, all = false) {
  const asked = all ? "" : view.input.value.trim();
  const found = asked ? find(view.rows, asked).slice(0, SHOWN) : view.rows;
  const named = compact(asked);
  const others = view.data.others
    .filter(([, label]) => !asked || !found.length || (named.length > 3 && compact(label).includes(named)))
    .map(([id, label]) => ({ id, label, sharing: "", names: [] }));
  view.options = asked ? [...found, ...others] : [...others, ...found];
  const quoted = asked.length > 60 ? `${asked.slice(0, 60)}…` : asked;
  const now = many(view) ? "" : ` The page still shows ${labelOf(view, view.values[0])}.`;
  view.nothing.hidden = !((asked && !found.length) || full(view));
  view.nothing.textContent = full(view)
    ? `${view.data.most} models are chosen, the most there can be; take one out first.`
    : `No published model is found by “${quoted}”.${now}`;
  view.list.replaceChildren(...view.options.map((option, at) => item(view, option, at, named)));
  view.open = true;
  view.panel.hidden = false;
  view.input.setAttribute("aria-expanded", "true");
  const chosen = asked ? -1 : view.options.findIndex((option) => option.id === view.values[0]);
  activate(view, asked ? (found.length ? 0 : -1) : chosen);
  // the panel may reach out of Streamlit's column, but not out of the window
  view.panel.style.left = "0";
  const box = view.panel.getBoundingClientRect();
  const over = box.right - (document.documentElement.clientWidth - 8);
  if (over > 0) view.panel.style.left = `${-Math.min(over, box.left - 8)}px`;
  if (asked) view.said.textContent = found.length ? `${found.length} found, first ${found[0].label}` : view.nothing.textContent;
}

function item(view, option, at, named) {
  const row = document.createElement("li");
  row.id = `option-${at}`;
  row.dataset.at = at;
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", view.values.includes(option.id) ? "true" : "false");
  if (full(view) && !view.values.includes(option.id)) row.setAttribute("aria-disabled", "true");
  const label = document.createElement("b");
  label.textContent = option.label;
  const beside = document.createElement("small");
  // if the search matched a name other than the label, show that name, so that the visitor sees why it was found
  const other = named && !compact(option.label).includes(named) && option.names.find((name) => compact(name).includes(named));
  beside.textContent = [other || "", option.sharing].filter(Boolean).join(" · ");
  row.append(label, " ", beside);
  return row;
}

function activate(view, at) {
  view.list.children[view.active]?.classList.remove("active");
  view.active = at;
  const row = view.list.children[at];
  if (!row) {
    view.input.removeAttribute("aria-activedescendant");
    return;
  }
  row.classList.add("active");
  view.input.setAttribute("aria-activedescendant", row.id);
  // scroll the list only, not the page
  if (row.offsetTop < view.list.scrollTop) view.list.scrollTop = row.offsetTop;
  const below = row.offsetTop + row.offsetHeight - view.list.clientHeight;
  if (below > view.list.scrollTop) view.list.scrollTop = below;
}

function close(view) {
  view.open = false;
  view.active = -1;
  view.panel.hidden = true;
  view.input.setAttribute("aria-expanded", "false");
  view.input.removeAttribute("aria-activedescendant");
  settle(view);
}

function send(view, value) {
  view.sent = Math.max(view.sent, view.data.n) + 1;
  view.component.setTriggerValue("pick", { value, n: view.sent });
}

function pick(view, option) {
  if (!option) return;
  if (many(view)) {
    const had = view.values.includes(option.id);
    if (!had && full(view)) return;
    setMany(view, had ? view.values.filter((value) => value !== option.id) : [...view.values, option.id]);
    view.input.value = "";
    show(view, true);
    return;
  }
  const other = option.id !== view.values[0];
  view.values = [option.id];
  close(view);
  if (other) send(view, option.id);
}

function setMany(view, values) {
  view.values = values;
  drawChips(view);
  send(view, values);
}

function drawChips(view) {
  if (!many(view)) return;
  const labels = new Map(view.data.chosen.map((value, i) => [value, view.data.chips[i]]));
  view.chips.replaceChildren(...view.values.map((value) => {
    const chip = document.createElement("span");
    chip.className = "chip";
    const name = document.createElement("span");
    name.textContent = labels.get(value) ?? labelOf(view, value);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "×";
    button.setAttribute("aria-label", `Take out ${name.textContent}`);
    button.onclick = () => {
      setMany(view, view.values.filter((own) => own !== value));
      view.said.textContent = `${name.textContent} was taken out`;
      view.input.focus();
    };
    chip.append(name, button);
    return chip;
  }));
}

function onKey(view, event) {
  const last = view.options.length - 1;
  const moves = { ArrowDown: Math.min(last, view.active + 1), ArrowUp: Math.max(0, view.active - 1) };
  if (event.key in moves) {
    event.preventDefault();
    if (!view.open) show(view, true);
    else activate(view, moves[event.key]);
  } else if (event.key === "Enter" && view.open) {
    event.preventDefault();
    if (view.active >= 0) pick(view, view.options[view.active]);
    else {
      const nothing = view.nothing.hidden ? "" : view.nothing.textContent;
      if (!many(view)) settle(view);
      view.said.textContent = nothing;
    }
  } else if (event.key === "Escape" && view.open) {
    event.preventDefault();
    event.stopPropagation();
    close(view);
  } else if (event.key === "Backspace" && many(view) && !view.input.value && view.values.length) {
    setMany(view, view.values.slice(0, -1));
  }
}

export default function (component) {
  const { parentElement, data } = component;
  let view = views.get(parentElement);
  if (!view) {
    view = make(parentElement);
    views.set(parentElement, view);
  }
  view.component = component;
  view.data = data;
  if (!view.rows) {
    view.rows = data.models.map(prepare);
    view.byId = new Map(view.rows.map((row) => [row.id, row]));
  }
  view.label.textContent = data.label;
  // an answer to an earlier pick must not replace a later pick
  if (data.n >= view.sent) {
    view.values = [...data.chosen];
    drawChips(view);
    if (!view.open) settle(view);
  }
  return () => views.delete(parentElement);
}
