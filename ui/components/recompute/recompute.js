const many = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

export default pictureOf({
  everyMs: 750,
  last: (data) => data.words.length - 1,
  layout(width, data) {
    const n = data.words.length;
    const wide = width >= 640;
    const panel = wide ? (width - 40) / 2 : width;
    const left = 74; // width of the words
    const cell = Math.min(30, (panel - left - 4) / n);
    const tall = Math.min(cell, 24);
    const each = 46 + tall * n + 8;
    return { n, left, cell, tall, panel, height: (wide ? each : 2 * each + 14) + 26, place: (i) => (wide ? [i * (panel + 40), 0] : [0, i * (each + 14)]), foot: (wide ? each : 2 * each + 14) + 14, wide };
  },
  build(pen, at, data) {
    const panels = ["Without a cache", "With a cache"].map((title, which) => {
      const [x0, y0] = at.place(which);
      const group = penOn(pen("g", { transform: `translate(${x0}, ${y0})` }));
      group("text", { class: "title", x: 0, y: 14 }, title);
      const count = group("text", { class: "note", x: 0, y: 33 });
      const rows = data.words.map((word, t) => {
        const row = group("g", { class: "row moves" });
        const draw = penOn(row);
        const y = 46 + at.tall * t;
        draw("text", { class: "end", x: at.left - 8, y: y + at.tall / 2 + 4 }, word);
        for (let i = 0; i <= t; i += 1)
          draw("rect", { class: `cell moves ${which === 0 || i === t ? "made" : "kept"}`, x: at.left + at.cell * i + 1, y: y + 1, width: at.cell - 2, height: at.tall - 2, rx: 3 });
        return row;
      });
      return { rows, count };
    });
    const key = [["made", "computed in this step"], ["kept", "kept, only read"]];
    key.forEach(([kind, text], i) => {
      pen("rect", { class: `cell ${kind}`, x: i * 168, y: at.foot - 10, width: 12, height: 12, rx: 3 });
      pen("text", { class: "note", x: i * 168 + 18, y: at.foot }, text);
    });
    return panels;
  },
  draw(panels, at, data, step) {
    const n = step + 1;
    panels.forEach(({ rows, count }, which) => {
      rows.forEach((row, t) => {
        for (const [name, is] of [["before", t < step], ["now", t === step], ["ahead", t > step]]) row.classList.toggle(name, is);
      });
      const made = which === 0 ? (n * (n + 1)) / 2 : n;
      count.textContent = `${which === 0 ? n : 1} computed in this step, ${made} so far, ${which === 0 ? "none" : n} kept`;
    });
  },
  says: (data, step) =>
    step === 0
      ? "The first token: there is nothing before it, so both compute one key and one value in every layer."
      : `With “${data.words[step]}” there are ${many(step + 1, "token")}. Without a cache the keys and values of all ${step + 1} are computed again; with one, ${step} ${step === 1 ? "is" : "are"} read and one is computed.`,
});
