// Closes the panel like a menu. The expander itself holds the open state, so this clicks the expander's own switch.
const closers = new WeakMap();

export default function (component) {
  const here = component.parentElement;
  const host = here.host || here.getRootNode().host || here;
  const details = host.closest(".st-key-more")?.querySelector("details");
  if (!details || closers.has(here)) return undefined;
  const summary = details.querySelector("summary");

  // the panel counts as open until it is drawn closed: a second click before that would open it again
  let closing = false;
  const close = () => {
    if (closing) return;
    closing = true;
    summary.click();
  };
  // the panel ends below its button's right edge; where it would begin left of the page, it begins with the page
  const place = () => {
    const panel = details.querySelector(":scope > :not(summary)");
    const page = details.closest("[data-testid=stMain]");
    if (!details.open || !panel || !page) return;
    const holder = details.closest(".st-key-more");
    holder.style.setProperty("--hs-panel-right", "0px");
    const beyond = page.getBoundingClientRect().left + 8 - panel.getBoundingClientRect().left;
    if (beyond > 0) holder.style.setProperty("--hs-panel-right", `${-beyond}px`);
  };
  const switched = (event) => { if (event.isTrusted) closing = false; };
  const drawn = () => {
    closing = false;
    place();
  };

  const elsewhere = (event) => {
    // Streamlit puts a list that a control has opened at the end of the page, outside the panel
    const inList = event.target.closest?.("[role=listbox], [data-baseweb=popover], [role=dialog]");
    if (details.open && !details.contains(event.target) && !inList) close();
  };
  const escape = (event) => {
    if (event.key !== "Escape" || !details.open || event.defaultPrevented) return;
    if (event.target.closest?.("[aria-expanded=true][role=combobox]")) return;
    close();
    summary.focus();
  };
  summary.addEventListener("click", switched);
  details.addEventListener("toggle", drawn);
  document.addEventListener("pointerdown", elsewhere);
  document.addEventListener("keydown", escape);
  window.addEventListener("resize", place);
  closers.set(here, true);
  return () => {
    summary.removeEventListener("click", switched);
    details.removeEventListener("toggle", drawn);
    document.removeEventListener("pointerdown", elsewhere);
    document.removeEventListener("keydown", escape);
    window.removeEventListener("resize", place);
    closers.delete(here);
  };
}
