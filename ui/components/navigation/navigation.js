/* Each link is an ordinary one, so a new tab, a copied address and a page without scripts work. A plain click moves
   on as Back does: Streamlit hears of it by "popstate", and this visitor's session remembers what each page showed. */
let followed = null; // the page whose link was followed: its own list stands in place of this one, without the focus

function follow(event) {
  const link = event.composedPath().find((part) => part.matches?.("nav.hs-pages a, nav.hs-path a"));
  if (!link || event.defaultPrevented) return;
  if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  // a link of the path brings the view it is about, and the next page is read from its top
  const onward = link.closest("nav.hs-path") !== null;
  followed = onward ? null : link.dataset.page;
  window.history.pushState(null, "", onward ? link.pathname + link.search : link.pathname);
  if (onward) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  window.dispatchEvent(new PopStateEvent("popstate"));
  if (window.matchMedia("(max-width: 768px)").matches)
    document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}

// not on the list: a new page draws a new one, and a click on it before it was furnished would load the app anew
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

  // in another tab the page shall begin with this one's model and context
  const carry = () => {
    for (const link of links) link.search = window.location.search;
  };
  list.onpointerover = carry;
  for (const link of links) link.onfocus = carry;
}
