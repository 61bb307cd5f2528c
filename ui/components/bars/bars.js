// Bars with their values beside them. The longest bar takes the width that its own text leaves.

const NS = "http://www.w3.org/2000/svg";
const ROW = 38;
const THICK = 24;
const GAP = 7; // between a bar and its text

function createBars(root) {
  const svg = root.querySelector("svg");
  const pen = document.createElement("canvas").getContext("2d");
  let rows = [];
  let data = null;

  const part = (name, className) => {
    const element = document.createElementNS(NS, name);
    element.setAttribute("class", className);
    return svg.appendChild(element);
  };
  const widthOf = (text, own) => {
    pen.font = `${own ? 600 : 400} 13px ${getComputedStyle(root).fontFamily}`;
    return pen.measureText(text).width;
  };
  const across = (rect, x, width) => {
    // the attributes are for browsers that do not animate the CSS properties
    rect.setAttribute("x", x);
    rect.setAttribute("width", width);
    rect.style.x = `${x}px`;
    rect.style.width = `${width}px`;
  };

  function draw() {
    const width = root.clientWidth;
    if (!data || width < 40) return;
    const left = Math.ceil(Math.max(...data.bars.map((bar) => widthOf(bar.label, bar.own)))) + 9;
    const scale = Math.min(
      ...data.bars.map((bar) => {
        const end = Math.max(bar.end, bar.start) + bar.spread;
        return end ? Math.max(8, width - left - GAP - 2 - widthOf(bar.text, bar.own)) / end : Infinity;
      }),
    );
    const at = (value) => left + (Number.isFinite(scale) ? value * scale : 0);
    svg.setAttribute("height", ROW * data.bars.length);
    data.bars.forEach((bar, i) => {
      const { label, rect, text, join, spread } = rows[i];
      const middle = ROW * (i + 0.5);
      const [first, last] = [Math.min(bar.start, bar.end), Math.max(bar.start, bar.end)];
      label.textContent = bar.label;
      label.setAttribute("x", left - 8);
      label.setAttribute("y", middle);
      text.textContent = bar.text;
      text.style.transform = `translate(${at(last + bar.spread) + GAP}px, ${middle}px)`;
      for (const element of [label, text]) element.classList.toggle("own", bar.own);
      across(rect, at(first), first === last ? 0 : Math.max(1, at(last) - at(first)));
      rect.setAttribute("y", middle - THICK / 2);
      rect.setAttribute("height", THICK);
      rect.setAttribute("rx", 3);
      rect.style.fill = bar.color;
      rect.classList.toggle("pale", bar.pale);
      const next = data.bars[i + 1];
      const joined = data.joined && next && [next.start, next.end].includes(bar.end);
      join.setAttribute("d", joined ? `M${at(bar.end)} ${middle + THICK / 2}v${ROW - THICK}` : "");
      const [low, high] = [at(Math.max(0, bar.end - bar.spread)), at(bar.end + bar.spread)];
      spread.setAttribute("d", bar.spread ? `M${low} ${middle}H${high}M${low} ${middle - 4}v8M${high} ${middle - 4}v8` : "");
    });
  }

  new ResizeObserver(draw).observe(root);
  document.fonts.ready.then(draw);
  return (next) => {
    data = next;
    svg.setAttribute("aria-label", data.alt);
    if (rows.length !== data.bars.length) {
      svg.classList.add("fresh");
      svg.replaceChildren();
      rows = data.bars.map(() => ({
        join: part("path", "join"), rect: part("rect", "bar"), spread: part("path", "spread"),
        label: part("text", "label"), text: part("text", "text"),
      }));
    }
    draw();
    // the first frame draws the new bars; only changes after the second frame are animated
    requestAnimationFrame(() => requestAnimationFrame(() => svg.classList.remove("fresh")));
    offerSave(root, svg, data.filename);
  };
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".bars");
  root.update = root.update ?? createBars(root);
  root.update(data);
}
