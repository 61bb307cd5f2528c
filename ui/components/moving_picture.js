// The common part of the pictures in steps: an SVG that is drawn again for each width, with Play, one step back and on,
// and a slider for the step. It asks the server nothing while it plays. A sketch is
//   { everyMs, last(data), layout(width, data), build(pen, at, data), draw(parts, at, data, step), says(data, step) }
// layout returns at least `height`; build makes the parts once for a width; draw shows a step; says describes it.

const SVG = "http://www.w3.org/2000/svg";

/** Makes elements below `parent`: pen("rect", {class: "cell", x: 3}, "text"). */
function penOn(parent) {
  return (name, values = {}, text = null) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return parent.appendChild(element);
  };
}

function createPicture(root, sketch) {
  const find = (name) => root.querySelector(name);
  const [stage, svg, says, play, scrub] = [".stage", "svg", ".says", ".play", ".scrub"].map(find);
  const it = { data: null, at: null, parts: null, step: 0, width: 0, playing: false, since: 0, request: 0, visible: true };

  function build() {
    const width = stage.clientWidth;
    if (!it.data || width < 40) return;
    it.width = width;
    it.at = sketch.layout(width, it.data);
    svg.setAttribute("height", it.at.height);
    svg.setAttribute("viewBox", `0 0 ${width} ${it.at.height}`);
    svg.replaceChildren();
    it.parts = sketch.build(penOn(svg), it.at, it.data);
    show();
  }

  function show() {
    if (!it.parts) return;
    sketch.draw(it.parts, it.at, it.data, it.step);
    const text = sketch.says(it.data, it.step);
    says.textContent = text;
    scrub.value = it.step;
    scrub.setAttribute("aria-valuetext", text);
    svg.setAttribute("aria-label", `${it.data.title}. ${text}`);
    root.dataset.step = it.step;
  }

  function go(step) {
    it.step = Math.max(0, Math.min(sketch.last(it.data), step));
    show();
  }

  function setPlaying(on) {
    if (on && it.step >= sketch.last(it.data)) go(0);
    it.playing = on;
    it.since = 0;
    play.textContent = on ? "Pause" : "Play";
    root.dataset.playing = on ? "yes" : "no";
    schedule();
  }

  function schedule() {
    if (it.playing && it.visible && !it.request) it.request = requestAnimationFrame(tick);
  }

  function tick(now) {
    it.request = 0;
    if (!it.playing) return;
    it.since = it.since || now;
    if (now - it.since >= sketch.everyMs) {
      it.since = now;
      go(it.step + 1);
      if (it.step >= sketch.last(it.data)) setPlaying(false);
    }
    schedule();
  }

  play.onclick = () => setPlaying(!it.playing);
  find(".back").onclick = () => { setPlaying(false); go(it.step - 1); };
  find(".step").onclick = () => { setPlaying(false); go(it.step + 1); };
  scrub.oninput = () => { setPlaying(false); go(Number(scrub.value)); };
  new ResizeObserver(() => { if (stage.clientWidth !== it.width) build(); }).observe(stage);
  new IntersectionObserver((seen) => { it.visible = seen.at(-1).isIntersecting; it.since = 0; schedule(); }).observe(stage);

  it.update = (data) => {
    const same = JSON.stringify(data) === JSON.stringify(it.data);
    if (same) return;
    const first = it.data === null;
    // a control of the page that changes the first step moves the picture to it
    const led = !first && data.start !== it.data.start;
    it.data = data;
    root.setAttribute("aria-label", data.title);
    scrub.max = sketch.last(data);
    // begin at the last step, unless the data name a first one: a reader who does not press Play sees the result
    if (led) setPlaying(false);
    it.step = first || led ? (data.start ?? sketch.last(data)) : Math.min(it.step, sketch.last(data));
    build();
  };
  return it;
}

const pictureOf = (sketch) => ({ parentElement, data }) => {
  const root = parentElement.querySelector(".picture");
  root.it = root.it ?? createPicture(root, sketch);
  root.it.update(data);
};
