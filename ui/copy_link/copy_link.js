export default function (component) {
  const button = component.parentElement.querySelector(".copy");
  const label = component.parentElement.querySelector(".label");
  const said = component.parentElement.querySelector(".said");

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
    const address = new URL(window.location.href);
    address.searchParams.delete("embed");
    address.searchParams.delete("embed_options");
    let copied = false;
    try {
      await navigator.clipboard.writeText(address.href);
      copied = true;
    } catch {
      copied = copyByHand(address.href);
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
