// The controls that a visitor can use on the page: [kind, number, key, label] of each, in the order of the page.
() => {
  const out = [];
  const seen = (e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  };
  const usable = (e) => seen(e) && !e.disabled && e.getAttribute("aria-disabled") !== "true";
  const name = (e) => {
    const keyed = e.closest("[class*=st-key-]");
    const label = e.closest("[data-testid=stElementContainer]")?.querySelector("[data-testid=stWidgetLabel]");
    return [(keyed && [...keyed.classList].find((c) => c.startsWith("st-key-"))) || "", (e.innerText || e.getAttribute("aria-label") || label?.innerText || "").trim().slice(0, 60)];
  };
  const kinds = [
    ["type", "[data-testid=stSelectbox] input, [data-testid=stMultiSelect] input"],
    ["number", "[data-testid=stNumberInputField]"],
    ["slide", "[data-testid=stSlider] input"],
    ["choose", "[data-testid=stButtonGroup] button, [data-testid=stButtonGroup] [role=radio]"],
    ["popover", "[data-testid=stPopover] button, [data-testid=stPopoverButton]"],
    ["press", "[data-testid=stButton] button"],
    ["write", "[data-testid=stTextArea] textarea, [data-testid=stTextInput] input"],
    ["fold", "[data-testid=stExpander] summary"],
    ["link", "[data-testid=stPageLink] a"],
    ["own", "[data-testid=stBidiComponentRegular], [data-testid=stBidiComponentIsolated], [data-testid=stBidiComponent]"],
  ];
  const rooms = [document.querySelector("[data-testid=stMain]"), ...document.querySelectorAll("[data-testid=stPopoverBody]")].filter(Boolean);
  for (const [how, where] of kinds) {
    let number = 0;
    const all = rooms.flatMap((room) => [...room.querySelectorAll(where)]);
    for (const e of all) {
      const at = number++;
      if (how === "slide" ? !e.disabled && seen(e.closest("[data-testid=stSlider]")) : usable(e)) out.push([how, at, ...name(e)]);
    }
  }
  document.querySelectorAll("nav.hs-pages a").forEach((e) => out.push(["page", 0, "", e.getAttribute("href")]));
  return out;
}
