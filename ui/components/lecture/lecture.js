// Arrow keys, and Page Up and Page Down as a clicker sends them, follow the bar's links, unless they are meant for what has
// the focus. A link is followed as those of the path are (navigation.js); Back and Forward of the browser work too.
const TAKES_KEYS =
  "input, textarea, select, [contenteditable=true], [role=slider], [role=radio], [role=tab], [role=combobox], [role=listbox], [role=grid], [role=application]";
const followers = new WeakMap();

function go(link) {
  if (!link) return;
  window.history.pushState(null, "", link.pathname + link.search);
  document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  window.dispatchEvent(new PopStateEvent("popstate"));
}

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
  // the same view as a page; its address may have changed since
  const leave = bar.querySelector(".leave");
  const outside = () => {
    const address = new URL(window.location.href);
    address.searchParams.delete("present");
    leave.href = address.href;
  };
  outside();
  leave.onpointerover = leave.onfocus = outside;

  if (followers.has(bar)) return undefined;
  const click = (event) => {
    const link = event.target.closest("a");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (link.className === "leave") outside();
    go(link);
  };
  const press = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const which = { ArrowRight: ".next", PageDown: ".next", ArrowLeft: ".back", PageUp: ".back" }[event.key];
    if (!which || (event.key.startsWith("Arrow") && event.composedPath().some((e) => e.matches?.(TAKES_KEYS)))) return;
    event.preventDefault();
    go(bar.querySelector(which));
  };
  bar.addEventListener("click", click);
  document.addEventListener("keydown", press);
  followers.set(bar, true);
  return () => {
    bar.removeEventListener("click", click);
    document.removeEventListener("keydown", press);
    followers.delete(bar);
  };
}
