// Columns in which one model writes at the same time. All texts are set as text, never as markup.

function make(tag, className, parent) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return parent.appendChild(element);
}

function createCard(row, column) {
  const card = make("section", "card", row);
  card.setAttribute("aria-label", column.name);
  card.style.setProperty("--own", column.color);
  const head = make("div", "head", card);
  make("span", "name", head).textContent = column.name;
  make("span", "kind", head).textContent = column.kind;
  const heads = make("div", "heads", card);
  heads.setAttribute("aria-hidden", "true");
  for (const color of column.colors) {
    const group = make("span", "group", heads);
    group.style.setProperty("--kv", color);
    for (let i = 0; i < column.group; i++) make("i", "", group);
  }
  const text = make("div", "text", card);
  text.setAttribute("dir", "auto");
  text.setAttribute("tabindex", "0");
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", `What ${column.name} writes`);
  const state = make("div", "state", card);
  const bar = make("div", "", make("div", "cache", card));
  for (const color of column.colors) make("i", "", bar).style.setProperty("--kv", color);
  const list = make("dl", "", card);
  return { text, state, bar, list, values: [] };
}

function update(card, column) {
  const pinned = card.text.scrollHeight - card.text.scrollTop - card.text.clientHeight < 40;
  const shown = column.text || column.waiting;
  if (card.text.textContent !== shown) card.text.textContent = shown;
  card.text.classList.toggle("empty", !column.text);
  card.text.classList.toggle("live", column.live);
  if (pinned && column.live) card.text.scrollTop = card.text.scrollHeight;
  card.state.textContent = column.state;
  card.bar.style.width = `${100 * column.share}%`;
  if (card.values.length !== column.figures.length) {
    card.list.replaceChildren();
    card.values = column.figures.map(() => [make("dt", "", card.list), make("dd", "", card.list)]);
  }
  column.figures.forEach(([name, value], i) => {
    card.values[i][0].textContent = name;
    card.values[i][1].textContent = value;
  });
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".columns");
  root.setAttribute("aria-label", data.alt);
  const shape = JSON.stringify(data.columns.map((c) => [c.name, c.kind, c.colors, c.group]));
  if (root.shape !== shape) {
    root.shape = shape;
    root.replaceChildren();
    const row = make("div", "row", root);
    row.style.setProperty("--n", data.columns.length);
    root.cards = data.columns.map((column) => createCard(row, column));
  }
  data.columns.forEach((column, i) => update(root.cards[i], column));
}
