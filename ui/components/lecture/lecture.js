// Arrow keys follow the bar's links unless the focused element uses them; Page Up and Page Down, which a clicker sends,
// always do. Links work as on the path (navigation.js); Back and Forward of the browser work too.
//
// A state is drawn a while after its key. A key pressed meanwhile moves on from the state that is asked for (`asked`), not
// from the one still shown; once that state is shown, the bar itself says where the lecture is.
const TAKES_KEYS =
  "input, textarea, select, [contenteditable=true], [role=slider], [role=radio], [role=tab], [role=combobox], [role=listbox], [role=grid], [role=application]";
const shownBar = () => document.querySelector("nav.hs-lecture");

const LATE_MS = 1500; // a page that is not drawn by then, with no run going on, shows another state: the bar counts
let asked = null; // {at: index of the state that was asked for, since: the time of the key}

function here(bar) {
  const runs = document.querySelector("[data-testid=stApp]")?.dataset.testScriptState !== "notRunning";
  if (asked !== null && !runs && performance.now() - asked.since > LATE_MS) asked = null;
  return asked?.at ?? bar.data.at;
}

function go(by) {
  const bar = shownBar();
  const to = here(bar) + by;
  if (!bar.data.addresses[to]) return;
  follow(new URL(bar.data.addresses[to], document.baseURI));
  asked = { at: to, since: performance.now() };
}

function follow(link) {
  asked = null;
  window.history.pushState(null, "", link.pathname + link.search);
  document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  window.dispatchEvent(new PopStateEvent("popstate"));
}

// the listener is on the document: every page draws a new bar
document.addEventListener("click", (event) => {
  const link = event.composedPath().find((part) => part.matches?.("nav.hs-lecture a"));
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (link.matches(".leave")) follow(link);
  else go(link.matches(".back") ? -1 : 1);
});
window.addEventListener("popstate", (event) => { if (event.isTrusted) asked = null; }); // Back or Forward

// before any control hears the key: a slider would take the clicker's keys
document.addEventListener("keydown", (event) => {
  if (!shownBar() || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
  if (!by || (event.key.startsWith("Arrow") && event.composedPath().some((e) => e.matches?.(TAKES_KEYS)))) return;
  event.preventDefault();
  event.stopPropagation();
  go(by);
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
  if (asked?.at === data.at) asked = null;
  bar.data = data;
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
