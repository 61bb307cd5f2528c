const TOKENS = 24; // so many tokens are drawn
const WINDOW = 6; // a window of so many tokens stands for the model's own

export default pictureOf({
  everyMs: 450,
  last: () => TOKENS - 1,
  layout(width, data) {
    const wide = width >= 560;
    const left = wide ? 150 : 66;
    const right = wide ? 96 : 34;
    const cell = (width - left - right) / TOKENS;
    const tall = Math.min(26, Math.max(16, cell));
    return { wide, left, right, cell, tall, width, height: 26 + tall * data.windowed.length + 24 };
  },
  build(pen, at, data) {
    pen("text", { class: "note", x: at.left, y: 14 }, "tokens, oldest first");
    pen("text", { class: "note end", x: at.width, y: 14 }, at.wide ? "kept" : "");
    return data.windowed.map((windowed, layer) => {
      const y = 24 + at.tall * layer;
      const name = at.wide ? `layer ${layer}, ${windowed ? `window ${data.window}` : "full"}` : windowed ? "window" : "full";
      pen("text", { class: windowed ? "note" : "title", x: 0, y: y + at.tall / 2 + 4 }, name);
      const cells = Array.from({ length: TOKENS }, (_, i) =>
        pen("rect", { class: `cell moves ${windowed ? "" : "full"}`, x: at.left + at.cell * i + 0.75, y: y + 1, width: at.cell - 1.5, height: at.tall - 2, rx: Math.min(3, at.cell / 4) }));
      const kept = pen("text", { class: "note end", x: at.width, y: y + at.tall / 2 + 4 });
      return { windowed, cells, kept };
    });
  },
  draw(rows, at, data, step) {
    for (const { windowed, cells, kept } of rows) {
      const first = windowed ? Math.max(0, step - WINDOW + 1) : 0;
      cells.forEach((cell, i) => {
        cell.classList.toggle("held", i >= first && i <= step);
        cell.classList.toggle("now", i === step);
      });
      kept.textContent = at.wide ? `${step - first + 1} of ${step + 1}` : step - first + 1;
    }
  },
  says(data, step) {
    const n = step + 1;
    const full = data.windowed.filter((windowed) => !windowed).length;
    const kept = (data.windowed.length - full) * Math.min(n, WINDOW) + full * n;
    const all = data.windowed.length * n;
    return n <= WINDOW
      ? `${n} ${n === 1 ? "token fits" : "tokens fit"} into the window: every layer keeps all of them, ${all} entries in all.`
      : `The window has moved on: these layers keep ${kept} entries in place of ${all}. What has left a window is gone for that layer; a full layer still reads it.`;
  },
});
