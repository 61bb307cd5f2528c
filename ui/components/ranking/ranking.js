// A list, not a drawing: long names wrap, and a keyboard and a screen reader reach each entry like any other text.
const TEXT_REM = 11; // width kept free for the value beside the longest bar

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
