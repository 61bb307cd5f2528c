// Runs before Streamlit's own scripts. It tells Streamlit where the server is, decides whether the list of pages stands
// beside the page, shows the page only when all its parts are in place, and prepares it for paper: figures fit, and the
// address and the date are printed.

// Otherwise Streamlit tries the page's own address first and gets 404 twice on every page but the first. All pages are
// in one folder, so the server's address is that folder, also behind a proxy that serves the app under its own path.
window.__streamlit = { BACKEND_BASE_URL: new URL("./", document.baseURI).href };

{
  const root = document.documentElement;
  const narrow = window.matchMedia("(max-width: 1099.98px)");
  const embedded = new URLSearchParams(window.location.search).get("embed") === "true";
  const presenting = new URLSearchParams(window.location.search).get("present") === "true";
  // keys of the storage: Streamlit's, with the visitor's choice, and ours, which holds it while the window is narrow
  const [chosen, waiting] = ["stSidebarCollapsed-", "headshareSidebar"];

  // a narrow window begins with the list closed; a wide window gets back what the visitor chose there
  const adapt = (loading) => {
    try {
      const before = localStorage.getItem(waiting);
      if (narrow.matches && (loading || before === null)) {
        if (before === null) localStorage.setItem(waiting, localStorage.getItem(chosen) ?? "");
        localStorage.setItem(chosen, "true");
      } else if (!narrow.matches && before !== null) {
        if (before) localStorage.setItem(chosen, before);
        else localStorage.removeItem(chosen);
        localStorage.removeItem(waiting);
      }
      return localStorage.getItem(chosen) === "true";
    } catch {
      return narrow.matches; // this browser has no storage
    }
  };

  // the style sheet keeps the width of the list free until it is drawn
  root.classList.toggle("hs-list-beside", !adapt(true) && !embedded && !presenting);
  // before Streamlit's own listener, which reads the storage
  window.addEventListener("resize", () => adapt(false), { capture: true });
}

{
  const root = document.documentElement;
  const RUN_MS = 5000; // a page whose run takes longer is shown part by part
  const PARTS_MS = 8000; // after so long the page is shown even if parts are still loading
  let since = null;
  root.classList.add("hs-arriving");

  // a visible part whose script is still loading; not a figure, whose script takes long but whose height is reserved
  const missing = (part) => {
    const { top, height } = part.getBoundingClientRect();
    return top < window.innerHeight && height < 120;
  };
  const look = () => {
    const app = document.querySelector("[data-testid=stApp]");
    if (since === null && app?.querySelector(".stMainBlockContainer .stElementContainer")) since = performance.now();
    const waited = since === null ? 0 : performance.now() - since;
    const skeletons = app?.querySelectorAll("[data-testid=stMain] [data-testid=stSkeleton]") ?? [];
    const ran = app?.dataset.testScriptState === "notRunning" || waited > RUN_MS;
    if (since !== null && ran && (waited > PARTS_MS || ![...skeletons].some(missing)))
      // components draw in the frame after they have arrived
      requestAnimationFrame(() => requestAnimationFrame(() => root.classList.remove("hs-arriving")));
    else setTimeout(look, 25);
  };
  look();
}

{
  // There is no time to draw a figure again for the printer, so it is scaled like a picture.
  const figures = (root) => [
    ...root.querySelectorAll(".stPlotlyChart svg.main-svg, svg[role=img]"),
    ...[...root.querySelectorAll("*")].flatMap((e) => (e.shadowRoot ? figures(e.shadowRoot) : [])),
  ];
  const scaled = new Set();
  window.addEventListener("beforeprint", () => {
    const address = new URL(window.location.href);
    for (const key of ["embed", "embed_options", "present"]) address.searchParams.delete(key);
    const date = new Date().toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
    for (const place of document.querySelectorAll(".hs-paper-where")) place.textContent = `${address.href} · ${date}`;
    for (const figure of figures(document)) {
      const { width, height } = figure.getBoundingClientRect();
      if (!width || !height) continue;
      const frame = figure.closest(".svg-container");
      if (frame) frame.style.setProperty("--hs-aspect", `${width} / ${height}`);
      if (figure.hasAttribute("viewBox")) continue;
      figure.setAttribute("viewBox", `0 0 ${width} ${height}`);
      scaled.add(figure);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const place of document.querySelectorAll(".hs-paper-where")) place.textContent = "";
    for (const figure of scaled) figure.removeAttribute("viewBox");
    scaled.clear();
  });
}
