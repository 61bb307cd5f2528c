// A text, the attention of one layer's heads over it, and arcs from the chosen byte to the bytes each shown head looks
// at. All maps come with the data, so a choice of a byte or a head shows at once; the page hears of it for its address.

const views = new WeakMap();
const SVG = "http://www.w3.org/2000/svg";
const TELL_MS = 300; // the page hears of a choice when no other choice has followed for so long
const MOST_ARCS = 8; // arcs of one head; the rest of its attention is drawn as shading only

function unpack(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) out[i] = raw.charCodeAt(i);
  return out;
}

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function make(root) {
  const find = (name) => root.querySelector("." + name);
  const view = {
    view: find("view"), stage: find("stage"), arcs: find("arcs"), text: find("text"), said: find("said"),
    next: find("next"), heads: find("heads"), chosen: null, shown: null, spans: [], data: null,
    sent: 0, n: 0, untold: {}, timer: null,
  };
  view.text.onclick = (event) => {
    const span = event.target.closest("span");
    if (span) choose(view, Number(span.dataset.at));
  };
  view.text.onkeydown = (event) => {
    const moves = { ArrowLeft: view.chosen - 1, ArrowRight: view.chosen + 1, Home: 0, End: view.data.n - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(view, moves[event.key]);
  };
  view.resize = new ResizeObserver(() => view.data && drawArcs(view));
  view.resize.observe(view.stage);
  return view;
}

const weight = (view, head, t, s) => {
  const stored = view.maps[head * view.pairs + (t * (t + 1)) / 2 + s] / 255;
  return stored * stored;
};

function buildText(view) {
  const { glyphs, unit } = view.data;
  view.text.setAttribute("aria-label", `Text. Left and right arrow keys choose a ${unit}.`);
  view.text.classList.toggle("tokens", unit === "token");
  view.spans = [];
  view.text.replaceChildren();
  glyphs.forEach((glyph, at) => {
    const span = document.createElement("span");
    span.textContent = glyph;
    span.dataset.at = at;
    if (glyph === "↵" || glyph === "→") span.className = "blank";
    if (glyph.length > 1 && unit === "byte") span.className = "hex";
    view.spans.push(span);
    view.text.append(span);
    if (glyph.endsWith("↵")) view.text.append("\n");
  });
}

function buildHeads(view) {
  view.heads.replaceChildren();
  view.heads.style.setProperty("--columns", view.data.columns);
  view.heads.style.setProperty("--narrow", view.data.columns === 3 ? 3 : 2);
  view.data.heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.style.setProperty("--head", head.color);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", head.alt);
    const name = document.createElement("span");
    name.className = "name";
    const dot = document.createElement("span");
    dot.className = "dot";
    const label = document.createElement("span");
    label.textContent = `Head ${index}`;
    const kv = document.createElement("span");
    kv.className = "kv";
    kv.textContent = `K/V ${head.kv}`;
    name.append(dot, label, kv);
    const role = document.createElement("span");
    role.className = "role";
    role.textContent = head.role;
    role.title = head.role;
    button.append(name, canvas, role);
    button.onclick = () => {
      if (view.shown.has(index)) view.shown.delete(index);
      else view.shown.add(index);
      refresh(view);
      tell(view, { heads: [...view.shown].sort((a, b) => a - b) });
    };
    view.heads.append(button);
    head.button = button;
    head.canvas = canvas;
    head.image = paint(view, canvas, index, head.color);
  });
}

function paint(view, canvas, head, color) {
  const { n } = view.data;
  // with few tokens each gets several pixels, so that the frame of the chosen row hides no other row
  canvas.width = n * view.scale;
  canvas.height = n * view.scale;
  const sheet = document.createElement("canvas");
  sheet.width = n;
  sheet.height = n;
  const pen = sheet.getContext("2d");
  const image = pen.createImageData(n, n);
  const [r, g, b] = rgb(color);
  const from = head * view.pairs;
  let k = 0;
  for (let t = 0; t < n; t += 1) {
    for (let s = 0; s <= t; s += 1) {
      const at = 4 * (t * n + s);
      image.data[at] = r;
      image.data[at + 1] = g;
      image.data[at + 2] = b;
      image.data[at + 3] = view.maps[from + k];
      k += 1;
    }
  }
  pen.putImageData(image, 0, 0);
  return sheet;
}

function choose(view, at) {
  view.chosen = Math.max(0, Math.min(view.data.n - 1, at));
  refresh(view);
  tell(view, { byte: view.chosen });
}

function tell(view, choice) {
  Object.assign(view.untold, choice);
  view.sent = Math.max(view.sent, view.n) + 1;
  clearTimeout(view.timer);
  view.timer = setTimeout(() => {
    view.component.setTriggerValue("look", { ...view.untold, n: view.sent });
    view.untold = {};
  }, TELL_MS);
}

function refresh(view) {
  const { data, chosen } = view;
  data.heads.forEach((head, index) => {
    head.button.setAttribute("aria-pressed", view.shown.has(index) ? "true" : "false");
    const pen = head.canvas.getContext("2d");
    const side = data.n * view.scale;
    pen.imageSmoothingEnabled = false;
    pen.clearRect(0, 0, side, side);
    pen.drawImage(head.image, 0, 0, side, side);
    // the chosen byte's row
    pen.strokeStyle = getComputedStyle(view.view).color;
    pen.globalAlpha = 0.55;
    pen.lineWidth = Math.max(1, side / 128);
    pen.strokeRect(0.5, chosen * view.scale, (chosen + 1) * view.scale, view.scale);
    pen.globalAlpha = 1;
  });
  const shown = [...view.shown].sort((a, b) => a - b);
  view.spans.forEach((span, s) => {
    span.classList.toggle("chosen", s === chosen);
    span.classList.toggle("later", s > chosen);
    let strongest = 0;
    let color = "";
    for (const head of shown) {
      const w = s <= chosen ? weight(view, head, chosen, s) : 0;
      if (w > strongest) {
        strongest = w;
        color = data.heads[head].color;
      }
    }
    span.style.background = strongest > 0.01
      ? `color-mix(in srgb, ${color} ${Math.round(75 * Math.sqrt(strongest))}%, transparent)` : "";
  });
  drawArcs(view);
  const p = data.predictions[chosen];
  const looks = shown.slice(0, 3).map((head) => {
    let best = 0;
    for (let s = 0; s <= chosen; s += 1) if (weight(view, head, chosen, s) > weight(view, head, chosen, best)) best = s;
    const share = Math.round(100 * weight(view, head, chosen, best));
    return `head ${head} looks most at ${data.unit} ${best}, ${data.names[best]} (${share} %)`;
  });
  const after = p.next ? ` What follows, ${p.next[0]}, gets ${(100 * p.next[1]).toFixed(1)} %.` : "";
  view.said.textContent = `${data.unit === "byte" ? "Byte" : "Token"} ${chosen}, ${data.names[chosen]}: ${looks.join(", ") || "no head is shown"}.${after}`;
  view.next.replaceChildren(...p.top.map(([name, probability]) => {
    const item = document.createElement("div");
    item.setAttribute("role", "listitem");
    const label = document.createElement("b");
    label.textContent = name;
    const bar = document.createElement("i");
    bar.style.width = `${100 * probability}%`;
    const number = document.createElement("small");
    number.textContent = `${(100 * probability).toFixed(1)} %`;
    item.append(label, bar, number);
    return item;
  }));
  view.view.dataset.chosen = chosen;
  view.view.dataset.shown = shown.join(",");
}

function drawArcs(view) {
  const { data, chosen } = view;
  view.arcs.replaceChildren();
  const box = view.stage.getBoundingClientRect();
  const middle = (span) => {
    const r = span.getBoundingClientRect();
    return [r.left - box.left + r.width / 2, r.top - box.top + r.height / 2, r.height / 2];
  };
  if (!view.spans[chosen]) return;
  const [x1, y1, half] = middle(view.spans[chosen]);
  for (const head of view.shown) {
    const rows = [];
    for (let s = 0; s < chosen; s += 1) rows.push([weight(view, head, chosen, s), s]);
    rows.sort((a, b) => b[0] - a[0]);
    for (const [w, s] of rows.slice(0, MOST_ARCS)) {
      if (w < 0.04) break;
      const [x0, y0] = middle(view.spans[s]);
      const path = document.createElementNS(SVG, "path");
      const wanted = Math.min(60, 12 + Math.hypot(x1 - x0, y1 - y0) * 0.25) + 2 * head;
      // the curve rises to three quarters of `lift`; it must stay below the upper edge
      const lift = Math.min(wanted, (Math.min(y0, y1) - half - 4) / 0.75);
      path.setAttribute("d", `M${x1},${y1 - half} C${x1},${y1 - half - lift} ${x0},${y0 - half - lift} ${x0},${y0 - half}`);
      path.setAttribute("fill", "none");
      path.setAttribute("stroke", data.heads[head].color);
      path.setAttribute("stroke-width", (0.8 + 4 * w).toFixed(2));
      path.setAttribute("opacity", (0.35 + 0.6 * w).toFixed(2));
      view.arcs.append(path);
    }
  }
}

export default function (component) {
  const { parentElement, data } = component;
  let view = views.get(parentElement);
  if (!view) {
    view = make(parentElement);
    views.set(parentElement, view);
  }
  const fresh = view.key !== data.key;
  view.key = data.key;
  view.component = component;
  view.n = data.told;
  // an answer to an earlier choice must not replace a later choice
  if (data.told >= view.sent) {
    view.chosen = data.start;
    view.shown = new Set(data.shown);
  }
  view.chosen = Math.min(view.chosen, data.n - 1);
  if (fresh) {
    view.data = data;
    view.maps = unpack(data.maps);
    view.pairs = (data.n * (data.n + 1)) / 2;
    view.scale = Math.max(1, Math.floor(256 / data.n));
    buildText(view);
    buildHeads(view);
    view.view.dataset.key = data.key;
  }
  refresh(view);
  return () => {
    clearTimeout(view.timer);
    view.resize.disconnect();
    views.delete(parentElement);
  };
}
