// Draws one attention layer; layout.js computes all positions. The picture keeps the elements of every query head, and
// of the K/V head that this query head has in MHA: when heads share, the K/V heads of a group move onto one slot.

const SVG = "http://www.w3.org/2000/svg";
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
    // a high window gives the columns more height
    const at = layout(width, { ...data, room: Math.max(0, Math.min(150, window.innerHeight - 860)) });
    const held = cells(at, data);
    svg.setAttribute("height", at.height);
    svg.setAttribute("viewBox", `0 0 ${width} ${at.height}`);
    map.heads.forEach((parts, i) => {
      const { kv, kept, head, slot, unit, link, flow } = standing(at, data, i);
      const color = data.colors[kv];
      const w = unit.width;

      place(parts.head, head.x, head.y);
      parts.dot.setAttribute("r", head.radius);
      parts.dot.style.fill = color;
      parts.headText.textContent = head.label;
      parts.headText.style.fill = inkOn(color);

      place(parts.slot, slot.x, slot.y);
      for (const [name, value] of [["x", -slot.width / 2], ["y", 0], ["width", slot.width], ["height", slot.height], ["rx", Math.min(4, slot.width / 4)]])
        parts.slotBox.setAttribute(name, value);

      place(parts.unit, unit.x, unit.y);
      parts.unit.classList.toggle("merged", !kept);
      parts.unit.classList.toggle("reader", data.shared);
      const single = data.latent || w < 7;
      const half = single ? w / 2 : w / 2 - 0.5;
      parts.cap.style.width = `${w}px`;
      parts.cap.style.height = `${at.capHeight}px`;
      parts.cap.style.x = `${-w / 2}px`;
      parts.cap.setAttribute("rx", Math.min(4, w / 4));
      parts.cap.style.fill = color;
      parts.bodies.forEach((body, side) => {
        const x = single ? 0 : side ? 0.5 + half / 2 : -0.5 - half / 2;
        shape(body, `M${x.toFixed(2)} ${held.bottom.toFixed(2)}L${x.toFixed(2)} ${held.top.toFixed(2)}`);
        body.style.strokeWidth = `${single && side ? 0 : single ? w : half}px`;
        body.style.stroke = color;
        body.setAttribute("stroke-dasharray", `${Math.max(1, held.cell - 1.2).toFixed(2)} 1.2`);
      });
      parts.fresh.setAttribute("x", -w / 2);
      parts.fresh.setAttribute("y", 0);
      parts.fresh.setAttribute("width", w);
      parts.fresh.setAttribute("height", held.fresh.height);
      parts.fresh.style.fill = color;
      parts.fresh.style.transform = `translateY(${held.fresh.y}px)`;
      parts.unitText.textContent = unit.label;
      parts.unitText.setAttribute("y", at.capHeight / 2);
      parts.unitText.style.fill = inkOn(color);

      const bend = (link.y2 - link.y1) * 0.55;
      shape(parts.link, `M${link.x1.toFixed(2)} ${link.y1.toFixed(2)}C${link.x1.toFixed(2)} ${(link.y1 + bend).toFixed(2)} ${link.x2.toFixed(2)} ${(link.y2 - bend).toFixed(2)} ${link.x2.toFixed(2)} ${link.y2.toFixed(2)}`);
      parts.link.style.stroke = color;
      parts.link.style.strokeWidth = `${Math.max(1, Math.min(2.2, at.pitch * 0.11))}px`;
      shape(parts.flow, `M${flow.x.toFixed(2)} ${flow.y1.toFixed(2)}L${flow.x.toFixed(2)} ${flow.y2.toFixed(2)}`);
    });
    drawTexts(at, data);
    light(map.lit < data.nKv ? map.lit : -1);
  }

  function drawTexts(at, data) {
    const { token, ...rows } = words(at, data);
    for (const [name, { x, y, text }] of Object.entries(rows)) {
      map.texts[name].setAttribute("x", x);
      map.texts[name].setAttribute("y", y);
      map.texts[name].textContent = text;
    }
    map.texts.token.style.display = data.stage > 0 ? "" : "none";
    for (const [name, value] of [...Object.entries(token), ["rx", 6]]) map.texts.token.setAttribute(name, value);
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
      // the first frame draws the new parts; only changes after the second frame are animated
      requestAnimationFrame(() => requestAnimationFrame(() => svg.classList.remove("fresh")));
    } else {
      // the motion keeps the browser busy for half a second: show this run's other changes first
      later(show);
    }
    offerSave(root, svg, "head-map");
  };
  return map;
}

const SOON_MS = 900; // the first sharing stays so long
const EACH_MS = 1700; // each next sharing stays so long
const lessMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
// it is kept as well: the number beside the map may be drawn after the map has told its first sharing
const tell = (nKv) => {
  window.headshareSharing = nKv;
  window.dispatchEvent(new CustomEvent("headshare:sharing", { detail: nKv }));
};

/** Shows each sharing of `data.intro` once; ends as soon as the visitor does anything. */
function playIntro(map, data) {
  const ways = [...data.intro, null];
  let timer = 0;
  const end = () => {
    clearTimeout(timer);
    for (const does of ["pointerdown", "keydown", "wheel"]) document.removeEventListener(does, end, true);
    map.endIntro = null;
    tell(null);
    map.update(map.own);
  };
  const next = () => {
    const way = ways.shift();
    if (!way) return end();
    map.update({ ...map.own, ...way });
    tell(way.nKv);
    timer = setTimeout(next, EACH_MS);
  };
  map.endIntro = end;
  for (const does of ["pointerdown", "keydown", "wheel"]) document.addEventListener(does, end, true);
  const first = ways.shift();
  map.update({ ...data, ...first });
  const begin = () => {
    if (map.endIntro !== end) return;
    // ui/server/head.js shows the page when all of it is drawn
    if (document.documentElement.classList.contains("hs-arriving")) timer = setTimeout(begin, 60);
    else {
      tell(first.nKv);
      timer = setTimeout(next, SOON_MS);
    }
  };
  begin();
}

export default function (component) {
  const root = component.parentElement.querySelector(".map");
  const map = (root.headMap = root.headMap ?? createMap(root));
  const data = component.data;
  const same = map.own && JSON.stringify(map.own) === JSON.stringify(data);
  map.own = data;
  if (map.endIntro) return same ? undefined : map.endIntro();
  if (data.intro.length && !lessMotion.matches && !window.headshareArrived) {
    window.headshareArrived = true;
    playIntro(map, data);
  } else map.update(data);
}
