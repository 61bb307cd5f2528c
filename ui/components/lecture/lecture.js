// Arrow keys follow the bar's links unless the focused element uses them; Page Up and Page Down, which a clicker sends,
// always do. Links work as on the path (navigation.js); Back and Forward of the browser work too.
const TAKES_KEYS =
  "input, textarea, select, [contenteditable=true], [role=slider], [role=radio], [role=tab], [role=combobox], [role=listbox], [role=grid], [role=application]";
const shownBar = () => document.querySelector("nav.hs-lecture");

function go(link) {
  if (!link) return;
  window.history.pushState(null, "", link.pathname + link.search);
  document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  window.dispatchEvent(new PopStateEvent("popstate"));
}

// the listener is on the document: every page draws a new bar
document.addEventListener("click", (event) => {
  const link = event.composedPath().find((part) => part.matches?.("nav.hs-lecture a"));
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link);
});

// before any control hears the key: a slider would take the clicker's keys
document.addEventListener("keydown", (event) => {
  if (!shownBar() || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const which = { ArrowRight: ".next", PageDown: ".next", ArrowLeft: ".back", PageUp: ".back" }[event.key];
  if (!which || (event.key.startsWith("Arrow") && event.composedPath().some((e) => e.matches?.(TAKES_KEYS)))) return;
  event.preventDefault();
  event.stopPropagation();
  go(shownBar().querySelector(which));
}, { capture: true });

function linked(which, [label, to], arrow) {
  const made = document.createElement("a");
  made.className = which;
  made.href = to;
  made.rel = which === "back" ? "prev" : "next";
  made.textContent = which === "back" ? `${arrow} ${label}` : `${label} ${arrow}`;
  return made;
}

export default function ({ parentElement, data }) {
  const bar = parentElement.querySelector("nav");
  const shown = JSON.stringify(data);
  if (bar.shown !== shown) {
    bar.shown = shown;
    const middle = document.createElement("span");
    middle.className = "middle";
    const place = document.createElement("span");
    place.className = "place";
    place.textContent = data.place;
    const leave = document.createElement("a");
    leave.className = "leave";
    leave.textContent = "Leave the lecture";
    middle.append(place, leave);
    bar.replaceChildren(
      ...(data.back ? [linked("back", data.back, "←")] : []), middle, ...(data.next ? [linked("next", data.next, "→")] : [])
    );
  }
  // the link leads to the same view as an ordinary page; the address may have changed since the bar was drawn
  const leave = bar.querySelector(".leave");
  const outside = () => {
    const address = new URL(window.location.href);
    address.searchParams.delete("present");
    leave.href = address.href;
  };
  outside();
  leave.onpointerover = leave.onfocus = leave.onclick = outside;
}
