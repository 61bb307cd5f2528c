// The browser makes everything from the address in its address bar.
const listeners = new WeakMap();

const attribute = (text) =>
  text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The address of this view as a whole page, with the keys of `added`. */
function address(added = {}) {
  const found = new URL(window.location.href);
  for (const key of ["embed", "embed_options", "present"]) found.searchParams.delete(key);
  for (const [key, value] of Object.entries(added)) found.searchParams.set(key, value);
  return found.href;
}

const FORMS = {
  link: () => address(),
  markdown: (says) =>
    `[${says.replace(/[\\[\]]/g, "\\$&")}](${address().replaceAll("(", "%28").replaceAll(")", "%29")})`,
  frame: (says) =>
    `<iframe src="${attribute(address({ embed: "true" }))}" title="${attribute(says)}" width="900" height="620" loading="lazy"></iframe>`,
};

function copyByHand(text) {
  // navigator.clipboard exists on secure origins only
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  area.style.opacity = "0";
  document.body.appendChild(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

export default function (component) {
  const root = component.parentElement;
  const find = (name) => root.querySelector(name);
  const [ways, button, label, others, list, present, said, back] = [
    ".ways", ".copy", ".label", ".others", ".list", ".present", ".said", ".back",
  ].map(find);
  ways.hidden = component.data.back;
  back.hidden = !component.data.back;

  const follow = () => { back.href = address(); present.href = address({ present: "true" }); };
  follow(); // a link needs an address; before each use it is set again, because the address may have changed
  for (const link of [back, present])
    for (const event of ["pointerover", "focus", "click"]) link.addEventListener(event, follow);

  const open = (on) => {
    list.hidden = !on;
    others.setAttribute("aria-expanded", String(on));
  };
  const copy = async (as) => {
    const text = FORMS[as](component.data.says);
    let copied = false;
    try {
      await navigator.clipboard.writeText(text);
      copied = true;
    } catch {
      copied = copyByHand(text);
    }
    const what = { link: "Link", markdown: "Markdown", frame: "iframe" }[as];
    label.textContent = copied ? `${what} copied` : "Copy it from the address bar";
    said.textContent = label.textContent;
    clearTimeout(button.timer);
    button.timer = setTimeout(() => {
      label.textContent = "Copy link";
      said.textContent = "";
    }, 2000);
  };

  button.onclick = () => copy("link");
  others.onclick = () => open(list.hidden);
  for (const item of list.querySelectorAll("button"))
    item.onclick = () => {
      open(false);
      others.focus();
      copy(item.dataset.as);
    };
  present.onclick = (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    follow();
    open(false);
    // follow the link in the same way as the links of the list of pages (navigation.js)
    window.history.pushState(null, "", present.href);
    window.dispatchEvent(new PopStateEvent("popstate"));
  };

  if (listeners.has(root)) return undefined;
  const elsewhere = (event) => { if (!event.composedPath().includes(ways)) open(false); };
  const escape = (event) => {
    if (event.key !== "Escape" || list.hidden) return;
    open(false);
    others.focus();
  };
  document.addEventListener("pointerdown", elsewhere);
  document.addEventListener("keydown", escape);
  listeners.set(root, true);
  return () => {
    document.removeEventListener("pointerdown", elsewhere);
    document.removeEventListener("keydown", escape);
    listeners.delete(root);
  };
}
