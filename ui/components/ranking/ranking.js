// A list, not a drawing: long names wrap, and a keyboard and a screen reader reach each entry like any other text.
const TEXT_REM = 11; // width kept free for the value beside the longest bar

// The lines of the figure with the same models fade with the other bars. Plotly draws a group for each trace, in order:
// the lines of the models first, then one trace of marks with a point in each model's colour.
function fade(figure, chosen, bars) {
  const drawn = document.querySelector(`.st-key-${CSS.escape(figure)} .js-plotly-plot`);
  if (!drawn) return;
  const kept = new Set(chosen?.names.map(([label]) => label));
  const colors = new Set(chosen?.names.map(([, color]) => canonical(color)));
  const faded = (is) => (is ? "0.12" : "");
  const labels = new Set(bars.flatMap((bar) => bar.names.map(([label]) => label)));
  drawn.querySelectorAll(".scatterlayer > .trace").forEach((trace, i) => {
    const name = drawn.data?.[i]?.name;
    if (labels.has(name)) trace.style.opacity = faded(chosen && !kept.has(name));
    else for (const point of trace.querySelectorAll(".point")) point.style.opacity = faded(chosen && !colors.has(point.style.fill));
  });
  for (const label of drawn.querySelectorAll(".infolayer .annotation"))
    label.style.opacity = faded(chosen && !kept.has(label.textContent.replace(/^[●╍•━\s]+/u, "").trim()));
}

function canonical(color) {
  const probe = document.createElement("i");
  probe.style.color = color;
  return probe.style.color;
}

function listen(list, figure) {
  const show = (item) => fade(figure, list.bars[[...list.children].indexOf(item)], list.bars);
  const enter = (event) => show(event.target.closest("li"));
  const leave = () => requestAnimationFrame(() => show(list.querySelector("li:hover") ?? list.querySelector("li:focus-visible")));
  for (const [name, does] of [["pointerover", enter], ["focusin", enter], ["pointerleave", leave], ["focusout", leave]])
    list.addEventListener(name, does);
  return true;
}

const element = (name, className, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
};

function made() {
  const item = element("li", "");
  item.tabIndex = 0;
  const row = element("div", "row");
  row.append(element("div", "bar"), element("span", "text"));
  item.append(element("div", "names"), row);
  return item;
}

export default function ({ parentElement, data }) {
  const list = parentElement.querySelector(".ranking");
  list.bars = data.bars;
  list.heard = list.heard ?? listen(list, data.figure);
  list.setAttribute("aria-label", data.label);
  while (list.children.length > data.bars.length) list.lastChild.remove();
  while (list.children.length < data.bars.length) list.append(made());
  data.bars.forEach((bar, i) => {
    const item = list.children[i];
    item.querySelector(".names").replaceChildren(...bar.names.map(([label, color]) => {
      const name = element("span", "", label);
      const dot = element("i", "");
      dot.style.background = color;
      name.prepend(dot);
      return name;
    }));
    const drawn = item.querySelector(".bar");
    drawn.style.width = `calc((100% - ${TEXT_REM}rem) * ${bar.part})`;
    drawn.style.background = bar.names[0][1];
    item.querySelector(".text").textContent = bar.text;
  });
}
