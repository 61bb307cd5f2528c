// Plays a decode from frames that the server has computed. It asks the server nothing while it plays: numbers and their
// texts come with the frames, and the browser only moves bars and streams.

const PLAY_SECONDS = 14; // a whole decode
const scenes = new WeakMap();
const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");

function make(root) {
  const find = (name) => root.querySelector("." + name);
  const scene = {
    root: find("decode"), canvas: find("flow"), fillWeights: find("fill.weights"), fillCache: find("fill.cache"),
    tokens: find("tokens"), play: find("play"), back: find("back"), step: find("step"), scrub: find("scrub"),
    mark: find("mark"), crossing: find("crossing"), device: find("device"), stepTime: find("step-time"),
    at: 0, shown: -1, playing: false, last: 0, phase: 0, request: 0, drawn: 0, find, data: null,
  };
  scene.play.onclick = () => setPlaying(scene, !scene.playing);
  scene.back.onclick = () => { setPlaying(scene, false); goTo(scene, Math.ceil(scene.at) - 1); };
  scene.step.onclick = () => { setPlaying(scene, false); goTo(scene, Math.floor(scene.at) + 1); };
  scene.scrub.oninput = () => { setPlaying(scene, false); goTo(scene, Number(scene.scrub.value)); };
  const again = () => { scene.shown = -1; schedule(scene); };
  scene.resize = new ResizeObserver(again);
  scene.resize.observe(scene.canvas);
  scene.seen = new IntersectionObserver((entries) => { scene.visible = entries[0].isIntersecting; schedule(scene); });
  scene.seen.observe(scene.canvas);
  reduced.addEventListener("change", again);
  scene.close = () => {
    cancelAnimationFrame(scene.request);
    scene.resize.disconnect();
    scene.seen.disconnect();
    reduced.removeEventListener("change", again);
  };
  return scene;
}

function setPlaying(scene, on) {
  const last = scene.data.frames.length - 1;
  if (on && scene.at >= last) scene.at = 0;
  scene.playing = on && last > 0;
  scene.play.textContent = scene.playing ? "Pause" : "Play";
  scene.play.setAttribute("aria-label", scene.playing ? "Pause" : "Play");
  scene.root.dataset.playing = scene.playing ? "yes" : "no";
  scene.last = 0;
  schedule(scene);
}

function goTo(scene, frame) {
  scene.at = Math.max(0, Math.min(scene.data.frames.length - 1, frame));
  schedule(scene);
}

function schedule(scene) {
  if (!scene.request) scene.request = requestAnimationFrame((now) => tick(scene, now));
}

function tick(scene, now) {
  scene.request = 0;
  const elapsed = scene.last ? Math.min(0.1, (now - scene.last) / 1000) : 0;
  scene.last = now;
  const last = scene.data.frames.length - 1;
  if (scene.playing) {
    scene.at = Math.min(last, scene.at + (elapsed * last) / PLAY_SECONDS);
    scene.phase += elapsed;
    if (scene.at >= last) setPlaying(scene, false);
  }
  const frame = Math.floor(scene.at + 1e-6);
  if (frame !== scene.shown) show(scene, frame);
  drawFlow(scene);
  scene.drawn += 1;
  scene.root.dataset.drawn = scene.drawn;
  if (scene.playing && scene.visible !== false) schedule(scene);
}

const set = (scene, name, text) => { scene.find(name).textContent = text; };

function show(scene, index) {
  const { frames, tokens, largest, crossoverFrame } = scene.data;
  const f = frames[index];
  scene.shown = index;
  scene.fillWeights.style.width = `${(100 * f.weights) / largest}%`;
  scene.fillCache.style.width = `${Math.max(0.3, (100 * f.cache) / largest)}%`;
  set(scene, "weights-bytes", f.text.weights);
  set(scene, "cache-bytes", f.text.cache);
  set(scene, "n-context", f.text.context);
  set(scene, "n-bytes", f.text.moved);
  set(scene, "n-flops", f.text.flops);
  set(scene, "n-intensity", f.text.intensity);
  set(scene, "n-time", f.text.time);
  set(scene, "n-share", f.text.share);
  set(scene, "busy", f.text.busy);
  scene.find("level").style.height = `${100 * (f.busy ?? 0)}%`;
  scene.stepTime.textContent = f.binds === "memory" ? "waits for memory" : "is busy computing";
  scene.scrub.value = index;
  scene.scrub.setAttribute("aria-valuetext", `${f.text.context} tokens: ${f.text.summary}`);
  const words = [];
  for (let i = Math.max(0, index - 13); i <= index; i += 1) words.push(tokens[i % tokens.length]);
  scene.tokens.replaceChildren(...words.map((word) => {
    const item = document.createElement("i");
    item.textContent = word;
    return item;
  }));
  scene.root.dataset.frame = index;
  scene.crossing.textContent = crossoverFrame !== null && index >= crossoverFrame ? scene.data.after : scene.data.before;
}

function drawFlow(scene) {
  const { canvas, data } = scene;
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const f = data.frames[scene.shown];
  // a stream's thickness is its bytes over the most bytes that any step of this decode moves
  const thick = (bytes) => Math.max(1.5, (bytes / data.most) * height * 0.42);
  const middle = height / 2;
  const weights = thick(f.weights);
  const cache = thick(f.cache);
  stream(scene, pen, width, height * 0.36, middle - cache / 2, weights, ["#8a949e"], 0);
  stream(scene, pen, width, height * 0.7, middle + weights / 2, cache, data.colors, 0.37, data.phase === "prefill");
}

/** One stream from memory (left, at y0) to the processor (right, at y1), or back: a band with moving dashes. */
function stream(scene, pen, width, y0, y1, thickness, colors, shift, back = false) {
  const y = (x) => {
    const t = x / width;
    return y0 + (y1 - y0) * t * t * (3 - 2 * t);
  };
  const n = colors.length;
  const lane = thickness / n;
  for (let i = 0; i < n; i += 1) {
    const offset = -thickness / 2 + lane * (i + 0.5);
    pen.strokeStyle = colors[i];
    pen.lineWidth = Math.max(0.6, lane);
    pen.globalAlpha = 0.3;
    pen.beginPath();
    for (let x = 0; x <= width; x += 8) pen.lineTo(x, y(x) + offset);
    pen.lineTo(width, y(width) + offset);
    pen.stroke();
    pen.globalAlpha = 1;
    if (reduced.matches) continue;
    const gap = 34;
    const gone = (scene.phase * 150 + (shift + i / n) * gap) % gap;
    const start = (back ? gap - gone : gone) - gap;
    pen.lineWidth = Math.max(0.8, lane * 0.7);
    for (let x = start; x < width; x += gap) {
      pen.beginPath();
      pen.moveTo(Math.max(0, x), y(Math.max(0, x)) + offset);
      pen.lineTo(Math.min(width, x + 11), y(Math.min(width, Math.max(0, x + 11))) + offset);
      if (x + 11 > 0) pen.stroke();
    }
  }
}

export default function (component) {
  const { parentElement, data } = component;
  let scene = scenes.get(parentElement);
  if (!scene) {
    scene = make(parentElement);
    scenes.set(parentElement, scene);
  }
  const before = scene.data;
  const share = before && before.frames.length > 1 ? scene.at / (before.frames.length - 1) : 1;
  scene.data = data;
  const last = data.frames.length - 1;
  // when a setting changes, the animation stays at the same share of the decode
  scene.at = share * last;
  scene.shown = -1;
  scene.scrub.max = last;
  scene.root.setAttribute("aria-label", data.summary);
  scene.device.textContent = data.device;
  set(scene, "kept", data.kept);
  set(scene, "kept-share", data.share);
  for (const [name, text] of Object.entries(data.labels)) set(scene, `l-${name}`, text);
  scene.tokens.classList.toggle("all", data.phase === "prefill");
  const bands = data.colors.map((color, i, all) =>
    `${color} ${(100 * i) / all.length}% ${(100 * (i + 1)) / all.length}%`);
  scene.fillCache.style.background = `linear-gradient(to bottom, ${bands.join(", ")})`;
  const marked = data.crossoverFrame !== null && last > 0;
  scene.mark.hidden = !marked;
  if (marked) {
    const at = data.crossoverFrame / last;
    // the centre of the slider's thumb stays half its width away from both ends of the track
    scene.mark.style.left = `calc(${(100 * at).toFixed(2)}% + ${(8 - 16 * at).toFixed(1)}px)`;
    scene.mark.querySelector("span").textContent = data.markText;
    scene.mark.classList.toggle("right", at > 0.85);
  }
  schedule(scene);
  return () => {
    scene.close();
    scenes.delete(parentElement);
  };
}
