// The page's texts and the values of its controls, in the order of the page, without status lines and notices.
() => {
  const main = document.querySelector("[data-testid=stMain]");
  const own = (e) => e.closest('[class*="_status"], .st-key-notice, [data-testid=stExpander], [data-testid=stPopoverBody], [data-testid=stTooltipContent]');
  const words = [];
  for (const e of main.querySelectorAll('[data-testid=stMetric], [data-testid=stMarkdown], [data-testid=stCaptionContainer], [data-testid=stAlert], h1, h2, h3, input, [aria-checked=true], [kind$=Active]'))
    if (!own(e) && (e.type === 'range' || e.checkVisibility())) {
      const said = e.matches("[type=range]") ? e.getAttribute("aria-valuetext") : e.matches("input") ? e.value || e.closest("[data-baseweb=select]")?.innerText : e.innerText;
      if ((said || "").trim()) words.push(said.trim().replace(/\s+/g, " "));
    }
  return words;
}
