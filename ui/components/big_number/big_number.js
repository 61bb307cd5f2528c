// While the head map shows several sharings in turn, it sends the number of K/V heads of each; null: its own again. The
// last one is window.headshareSharing, because either of the two may be drawn first.
const numbers = new Set();
window.addEventListener("headshare:sharing", ({ detail }) => {
  for (const root of numbers) if (root.isConnected) show(root, detail);
    else numbers.delete(root);
});

function show(root, nKv) {
  const { value, beside, ways } = root.data;
  const [text, note] = nKv === null ? [value, beside] : (ways[nKv] ?? [value, beside]);
  root.querySelector(".hs-value").textContent = text;
  root.querySelector(".hs-beside").textContent = note;
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".hs-number");
  const moved = JSON.stringify(root.data) !== JSON.stringify(data);
  root.data = data;
  numbers.add(root);
  root.querySelector(".hs-label").textContent = data.label;
  if (moved) show(root, window.headshareSharing ?? null);
}
