export default function (component) {
  const button = component.parentElement.querySelector(".copy");
  const label = component.parentElement.querySelector(".label");
  const said = component.parentElement.querySelector(".said");

  const back = component.parentElement.querySelector(".back");
  button.hidden = component.data.back;
  back.hidden = !component.data.back;

  // the address of the whole page, not of what another page shows of it
  const whole = () => {
    const address = new URL(window.location.href);
    address.searchParams.delete("embed");
    address.searchParams.delete("embed_options");
    return address.href;
  };
  const follow = () => { back.href = whole(); };
  follow(); // a link without an address is none; later the address may have changed
  for (const event of ["pointerover", "focus", "click"]) back.addEventListener(event, follow);

  const copyByHand = (text) => {
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
  };

  button.onclick = async () => {
    let copied = false;
    try {
      await navigator.clipboard.writeText(whole());
      copied = true;
    } catch {
      copied = copyByHand(whole());
    }
    label.textContent = copied ? "Link copied" : "Copy it from the address bar";
    said.textContent = label.textContent;
    clearTimeout(button.timer);
    button.timer = setTimeout(() => {
      label.textContent = "Copy link";
      said.textContent = "";
    }, 2000);
  };
}
