// Draws one attention layer. Every query head keeps its elements for the life of the picture, as does the K/V head it
// would have in MHA: when heads share, the K/V heads of a group move onto the slot of the one they share.

const SVG = "http://www.w3.org/2000/svg";
const CELLS = 14; // cached tokens drawn in a full column
const node = (name, parent, className) => {
  const element = document.createElementNS(SVG, name);
  if (className) element.setAttribute("class", className);
  if (parent) parent.appendChild(element);
  return element;
};
const place = (element, x, y) => {
  element.style.transform = `translate(${x.toFixed(2)}px, ${y.toFixed(2)}px)`;
};
const shape = (path, d) => {
  // the attribute is for browsers that do not animate the CSS property
  path.setAttribute("d", d);
  path.style.d = `path("${d}")`;
};
const inkOn = (hex) => {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
  return 0.2126 * r ** 2.2 + 0.7152 * g ** 2.2 + 0.0722 * b ** 2.2 > 0.25 ? "#10181b" : "#ffffff";
};
const later = window.requestIdleCallback ? (then) => requestIdleCallback(then, { timeout: 200 }) : (then) => setTimeout(then, 30);
const range = (first, last) => (first === last ? `Query head ${first} reads` : `Query heads ${first}–${last} read`);

/** Where everything stands, in pixels, for this width. */
function layout(width, data) {
  const { nHeads: n, nKv, stage } = data;
  const wide = width >= 620;
  const left = wide ? 104 : 2;
  const room = width - left - 4;
  const group = n / nKv;
  // too many heads for one row stand in columns of 2, 4, …; a column's heads are neighbours
  let rows = 1;
  while (room / Math.ceil(n / rows) < 8.5 && rows < 16) rows *= 2;
  const columns = Math.ceil(n / rows);
  const gapped = group > 1 && nKv > 1 && group % rows === 0;
  const gaps = gapped ? 0.75 * (nKv - 1) : 0;
  const pitch = Math.min(52, room / (columns + gaps));
  const used = pitch * (columns + gaps);
  const x0 = left + (room - used) / 2 + pitch / 2;
  const columnX = (column) => {
    const crossed = gapped ? Math.floor((column * rows) / group) : 0;
    return x0 + pitch * (column + 0.75 * crossed);
  };
  const rowPitch = rows === 1 ? 0 : Math.min(pitch, 16);
  const radius = Math.min(13, pitch * 0.4, rows > 1 ? rowPitch * 0.42 : 99);
  const label = wide ? 0 : 20;
  const top = (stage > 0 ? 46 : 0) + label + radius + 3;
  const headsBottom = top + rowPitch * (rows - 1) + radius;
  const unitTop = headsBottom + (wide ? 88 : 76);
  const cacheHeight = wide ? 132 : 112;
  const unitWidth = Math.max(3, Math.min(30, pitch * 0.72));
  const capHeight = rows > 1 ? 7 : Math.max(9, Math.min(20, unitWidth * 0.9));
  const unitHeight = (cacheHeight + capHeight * rows) / rows;
  const slot = (i) => ({
    x: columnX(Math.floor(i / rows)),
    head: top + rowPitch * (i % rows),
    unit: unitTop + (unitHeight + 3) * (i % rows),
  });
  const keeper = (i) => {
    const first = Math.floor(i / group) * group;
    return first + Math.floor((group - 1) / 2);
  };
  // a kept K/V head stands at the top, whichever row its slot is in; two of one column stand one below the other
  const keptSlot = (i) => ({ ...slot(i), unit: group >= rows ? unitTop : slot(i).unit });
  const height = unitTop + (unitHeight + 3) * rows + 4 + label;
  return { wide, left, rows, pitch, radius, slot, keptSlot, keeper, group, unitWidth, capHeight, unitHeight, unitTop, top, headsBottom, height, label, width };
}

function createMap(root) {
  const stage = root.querySelector(".stage");
  const svg = root.querySelector("svg");
  const readout = root.querySelector(".readout");
  const map = { data: null, heads: [], lit: -1, pinned: false };

  function build(n) {
    svg.replaceChildren();
    const layers = ["slots", "flows", "links", "units", "heads", "texts"].map((name) => node("g", svg, name));
    const [slots, flows, links, units, heads, texts] = layers;
    map.heads = Array.from({ length: n }, (_, i) => {
      const slot = node("g", slots, "slot");
      const unit = node("g", units, "unit");
      const head = node("g", heads, "head");
      const parts = {
        slot, unit, head,
        slotBox: node("rect", slot),
        link: node("path", links, "link"),
        flow: node("path", flows, "flow"),
        cap: node("rect", unit),
        bodies: [node("path", unit), node("path", unit)],
        fresh: node("rect", unit, "new"),
        unitText: node("text", unit, "index"),
        dot: node("circle", head),
        headText: node("text", head, "index"),
      };
      for (const element of [head, unit, parts.link]) element.dataset.head = i;
      return parts;
    });
    map.texts = {
      q: node("text", texts, "row-label"), qn: node("text", texts, "row-note"),
      kv: node("text", texts, "row-label"), kvn: node("text", texts, "row-note"),
      token: node("rect", flows, "token"), tokenText: node("text", texts, "token-text"),
    };
  }

  function draw() {
    const data = map.data;
    const width = stage.clientWidth;
    if (!data || !data.nHeads || width < 40) return;
    const at = layout(width, data);
    const cell = (at.unitHeight - at.capHeight) / (CELLS + 1);
    svg.setAttribute("height", at.height);
    svg.setAttribute("viewBox", `0 0 ${width} ${at.height}`);
    map.heads.forEach((parts, i) => {
      const here = at.slot(i);
      const kv = Math.floor(i / at.group);
      const kept = at.keptSlot(at.keeper(i));
      const color = data.colors[kv];
      const ratio = data.latent ? Math.min(data.latentWidth, (at.pitch * data.nHeads) / at.unitWidth) : 1;
      const w = at.unitWidth * ratio;
      const rep = i === at.keeper(i);

      place(parts.head, here.x, here.head);
      parts.dot.setAttribute("r", at.radius);
      parts.dot.style.fill = color;
      const label = at.radius >= 8.4 ? String(i) : "";
      parts.headText.textContent = label;
      parts.headText.style.fill = inkOn(color);

      place(parts.slot, here.x, here.unit);
      for (const [name, value] of [["x", -at.unitWidth / 2], ["y", 0], ["width", at.unitWidth], ["height", at.unitHeight], ["rx", Math.min(4, at.unitWidth / 4)]])
        parts.slotBox.setAttribute(name, value);

      place(parts.unit, kept.x, kept.unit);
      parts.unit.classList.toggle("merged", !rep);
      parts.unit.classList.toggle("reader", data.shared);
      const half = data.latent || w < 7 ? w / 2 : w / 2 - 0.5;
      const single = data.latent || w < 7;
      const full = at.unitHeight - at.capHeight - 2;
      const room = data.stage ? cell : 0; // for the new token's cell
      const bottom = at.unitHeight - room;
      const start = Math.max(at.capHeight + 2, bottom - (full - room) * data.held);
      parts.cap.style.width = `${w}px`;
      parts.cap.style.height = `${at.capHeight}px`;
      parts.cap.style.x = `${-w / 2}px`;
      parts.cap.setAttribute("rx", Math.min(4, w / 4));
      parts.cap.style.fill = color;
      parts.bodies.forEach((body, side) => {
        const x = single ? 0 : side ? 0.5 + half / 2 : -0.5 - half / 2;
        shape(body, `M${x.toFixed(2)} ${bottom.toFixed(2)}L${x.toFixed(2)} ${start.toFixed(2)}`);
        body.style.strokeWidth = `${single && side ? 0 : single ? w : half}px`;
        body.style.stroke = color;
        body.setAttribute("stroke-dasharray", `${Math.max(1, cell - 1.2).toFixed(2)} 1.2`);
      });
      parts.fresh.setAttribute("x", -w / 2);
      parts.fresh.setAttribute("y", 0);
      parts.fresh.setAttribute("width", w);
      parts.fresh.setAttribute("height", Math.max(2, cell - 1));
      parts.fresh.style.fill = color;
      parts.fresh.style.transform = `translateY(${data.stage >= 2 ? at.unitHeight - cell : at.capHeight + 2}px)`;
      parts.unitText.textContent = rep && w >= 13 && at.capHeight >= 11 && !data.latent ? String(kv) : "";
      parts.unitText.setAttribute("y", at.capHeight / 2);
      parts.unitText.style.fill = inkOn(color);

      const y1 = here.head + at.radius + 1;
      const y2 = kept.unit - 3;
      const bend = (y2 - y1) * 0.55;
      shape(parts.link, `M${here.x.toFixed(2)} ${y1.toFixed(2)}C${here.x.toFixed(2)} ${(y1 + bend).toFixed(2)} ${kept.x.toFixed(2)} ${(y2 - bend).toFixed(2)} ${kept.x.toFixed(2)} ${y2.toFixed(2)}`);
      parts.link.style.stroke = color;
      parts.link.style.strokeWidth = `${Math.max(1, Math.min(2.2, at.pitch * 0.11))}px`;
      shape(parts.flow, `M${here.x.toFixed(2)} ${(at.top - at.radius - at.label - 20).toFixed(2)}L${here.x.toFixed(2)} ${(here.head - at.radius - 2).toFixed(2)}`);
    });
    drawTexts(at, data);
    light(map.lit < data.nKv ? map.lit : -1);
  }

  function drawTexts(at, data) {
    const t = map.texts;
    const put = (text, x, y, content) => {
      text.setAttribute("x", x);
      text.setAttribute("y", y);
      text.textContent = content;
    };
    const many = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
    const kvName = data.latent ? "1 latent" : data.shared ? "shared K/V" : many(data.nKv, "K/V head");
    if (at.wide) {
      put(t.q, 0, at.top + 4, many(data.nHeads, "query head"));
      put(t.qn, 0, at.top + 21, at.group > 1 ? `${at.group} per ${data.latent ? "latent" : "K/V head"}` : "");
      put(t.kv, 0, at.unitTop + 12, kvName);
      put(t.kvn, 0, at.unitTop + 29, `and ${data.nKv === 1 ? "its" : "their"} cache`);
    } else {
      put(t.q, 0, at.top - at.radius - 10, many(data.nHeads, "query head"));
      put(t.qn, 0, -99, "");
      put(t.kv, 0, at.height - 6, `${kvName} and ${data.nKv === 1 ? "its" : "their"} cache`);
      put(t.kvn, 0, -99, "");
    }
    const shown = data.stage > 0;
    const [first, last] = [at.slot(0).x - at.radius, at.slot(data.nHeads - 1).x + at.radius];
    const w = Math.max(last - first, 120);
    t.token.style.display = shown ? "" : "none";
    for (const [name, value] of [["x", first], ["y", 1], ["width", w], ["height", 24], ["rx", 6]]) t.token.setAttribute(name, value);
    put(t.tokenText, first + w / 2, 13.5, shown ? (data.stage === 4 ? "heads' results side by side, times W_O: the layer's output" : "the new token's hidden state") : "");
    if (!at.wide && shown) t.tokenText.textContent = data.stage === 4 ? "concatenate, times W_O" : "the new token";
  }

  function light(kv) {
    map.lit = kv;
    svg.classList.toggle("lit", kv >= 0);
    const data = map.data;
    if (!data || !data.nHeads) return;
    const group = data.nHeads / data.nKv;
    map.heads.forEach((parts, i) => {
      const dim = kv >= 0 && Math.floor(i / group) !== kv;
      for (const element of [parts.head, parts.unit, parts.link]) element.classList.toggle("dim", dim);
    });
    const what = data.latent ? "the latent vector" : `K/V head ${kv}`;
    const one = `${range(kv * group, (kv + 1) * group - 1)} ${what}.`;
    readout.textContent = kv >= 0 ? one : data.hint;
    stage.setAttribute("aria-valuenow", Math.max(0, kv));
    stage.setAttribute("aria-valuetext", kv >= 0 ? one : "none lit");
  }

  const headAt = (event) => event.target.closest?.("[data-head]")?.dataset.head;
  const groupOf = (i) => Math.floor(Number(i) / (map.data.nHeads / map.data.nKv));
  svg.addEventListener("pointerover", (event) => {
    const i = headAt(event);
    if (i !== undefined && event.pointerType !== "touch") { map.pinned = false; light(groupOf(i)); }
  });
  svg.addEventListener("pointerleave", () => { if (!map.pinned) light(-1); });
  svg.addEventListener("click", (event) => {
    const i = headAt(event);
    map.pinned = i !== undefined && !(map.pinned && groupOf(i) === map.lit);
    light(map.pinned ? groupOf(i) : -1);
  });
  stage.addEventListener("keydown", (event) => {
    const last = map.data.nKv - 1;
    const next = {
      ArrowRight: Math.min(last, map.lit + 1), ArrowUp: Math.min(last, map.lit + 1),
      ArrowLeft: Math.max(0, map.lit - 1), ArrowDown: Math.max(0, map.lit - 1),
      Home: 0, End: last, Escape: -1,
    }[event.key];
    if (next === undefined || !map.data.nHeads) return;
    event.preventDefault();
    map.pinned = next >= 0;
    light(next);
  });
  stage.addEventListener("blur", () => { map.pinned = false; light(-1); });
  new ResizeObserver(() => draw()).observe(stage);

  function show() {
    const data = map.data;
    svg.setAttribute("aria-label", data.summary);
    stage.setAttribute("aria-valuemax", data.nKv - 1);
    svg.classList.remove("s1", "s2", "s3", "s4");
    if (data.stage) svg.classList.add(`s${data.stage}`);
    draw();
  }

  map.update = (data) => {
    const rebuild = !map.data || map.data.nHeads !== data.nHeads;
    map.data = data;
    const empty = root.querySelector(".empty");
    if (empty) empty.remove();
    stage.style.display = data.nHeads ? "" : "none";
    if (!data.nHeads) {
      const note = document.createElement("p");
      note.className = "empty";
      note.textContent = data.empty;
      root.prepend(note);
      readout.textContent = "";
      return;
    }
    if (rebuild) {
      svg.classList.add("fresh");
      build(data.nHeads);
      show();
      // two frames: the first shows it, and what changes after the second may move
      requestAnimationFrame(() => requestAnimationFrame(() => svg.classList.remove("fresh")));
    } else {
      // half a second of motion takes every frame's time: what else this run changed is shown before it begins
      later(show);
    }
    offerSave(root, svg, "head-map");
  };
  return map;
}

export default function (component) {
  const root = component.parentElement.querySelector(".map");
  root.headMap = root.headMap ?? createMap(root);
  root.headMap.update(component.data);
}
