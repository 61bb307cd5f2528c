// Two buttons that save a drawing as it looks: the computed styles are written into a copy of it.
const SAVED_STYLES = [
  "fill", "stroke", "stroke-width", "stroke-dasharray", "opacity",
  "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline",
];

function standAlone(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  const copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, i) => {
    const style = getComputedStyle(original);
    copies[i].removeAttribute("style");
    for (const name of SAVED_STYLES) copies[i].setAttribute(name, style.getPropertyValue(name));
    if (style.transform !== "none") copies[i].setAttribute("transform", style.transform);
    for (const name of ["x", "width", "height"])
      if (original.tagName === "rect") copies[i].setAttribute(name, parseFloat(style.getPropertyValue(name)));
    if (style.display === "none") copies[i].setAttribute("display", "none");
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", getComputedStyle(svg).getPropertyValue("--st-background-color"));
  copy.prepend(ground);
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function hand(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function savePicture(svg, format, filename) {
  const { text, width, height } = standAlone(svg);
  const drawing = new Blob([text], { type: "image/svg+xml" });
  if (format === "svg") return hand(drawing, `${filename}.svg`);
  const image = new Image();
  image.src = URL.createObjectURL(drawing);
  await image.decode();
  const canvas = document.createElement("canvas");
  const scale = 2;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((blob) => hand(blob, `${filename}.png`));
}

/** Adds the buttons to the end of `place`, if they are not there. */
function offerSave(place, svg, filename) {
  let row = place.querySelector(".save");
  if (!row) {
    row = document.createElement("div");
    row.className = "save";
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = format.toUpperCase();
      button.title = `Save this picture as ${button.textContent}`;
      button.onclick = () => savePicture(svg, format, row.dataset.filename);
      row.append(button);
    }
    place.append(row);
  }
  row.dataset.filename = filename;
}

