/* Each link is an ordinary link, so a new tab, a copied address and a page without scripts work. A plain click works
   like the browser's Back: Streamlit hears of it by "popstate", and the session remembers what each page showed. */
let followed = null; // the page whose link was clicked: that page draws a new list, which must get the focus back

function follow(event) {
  const link = event.composedPath().find((part) => part.matches?.("nav.hs-pages a, nav.hs-path a"));
  if (!link || event.defaultPrevented) return;
  if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  // a link of the path brings its own view, and the page opens at its top
  const onward = link.closest("nav.hs-path") !== null;
  followed = onward ? null : link.dataset.page;
  window.history.pushState(null, "", onward ? link.pathname + link.search : link.pathname);
  if (onward) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  window.dispatchEvent(new PopStateEvent("popstate"));
  if (window.matchMedia("(max-width: 768px)").matches)
    document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}

// the listener is on the document: each page draws a new list, and a click before that list has its own listener would
// load the whole app again
document.addEventListener("click", follow);

export default function ({ parentElement, data }) {
  const list = parentElement.querySelector("nav");
  const links = [...list.querySelectorAll("a")];
  for (const link of links) {
    if (link.dataset.page === data.current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  if (followed === data.current) {
    followed = null;
    if (document.activeElement === document.body) list.querySelector("[aria-current]").focus({ preventScroll: true });
  }

  // a page that is opened in another tab begins with this page's model and context
  const carry = () => {
    for (const link of links) link.search = window.location.search;
  };
  list.onpointerover = carry;
  for (const link of links) link.onfocus = carry;
}
