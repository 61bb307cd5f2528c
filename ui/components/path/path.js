// navigation.js follows these links as it follows those of the list of pages. They bring their own query, so each page
// opens at the view that the path names.
const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

function drawn(link) {
  if (!link) return element("span", "");
  const back = link.which === "Back";
  const named = document.createElement("small");
  const arrow = element("span", back ? "←" : "→", { "aria-hidden": "true" });
  named.append(...(back ? [arrow, " Back"] : ["Next ", arrow]));
  const made = element("a", "", {
    class: link.which.toLowerCase(), href: link.to, "data-page": link.page, rel: back ? "prev" : "next",
  });
  made.append(named, element("b", link.label), element("span", link.says));
  return made;
}

export default function ({ parentElement, data }) {
  const list = parentElement.querySelector("nav");
  const shown = JSON.stringify(data.links);
  if (list.shown === shown) return;
  list.shown = shown;
  list.replaceChildren(...data.links.map(drawn));
}
