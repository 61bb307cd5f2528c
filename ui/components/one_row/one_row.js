const KEYS = 12; // so many keys are drawn; they stand for all tokens of the context
const ROWS = 12; // at most so many queries are drawn
const HIGH = 5; // cells of one key
const per = (part) => (part === null ? "unknown" : `${part >= 0.995 ? 100 : Number((100 * part).toPrecision(2))} %`);

export default pictureOf({
  everyMs: 620,
  last: () => KEYS - 1,
  layout(width, data) {
    const wide = width >= 640;
    const panel = wide ? (width - 44) / 2 : width;
    const left = Math.min(150, panel * 0.34);
    const cell = Math.min(26, (panel - left) / KEYS);
    const tall = Math.min(cell, 15);
    const rows = data.panels.map((each) => Math.min(ROWS, each.rows));
    // side by side both panels have the height of the longer one
    const [first, other] = rows.map((n) => 46 + HIGH * tall + 10 + (wide ? Math.max(...rows) : n) * tall + 66);
    return {
      panel, left, cell, tall, rows: wide ? rows.map(() => Math.max(...rows)) : rows,
      height: wide ? first : first + 12 + other, place: (i) => (wide ? [i * (panel + 44), 0] : [0, i * (first + 12)]),
    };
  },
  build(pen, at, data) {
    return data.panels.map((panel, which) => {
      const [x0, y0] = at.place(which);
      const group = penOn(pen("g", { transform: `translate(${x0}, ${y0})` }));
      const { left, cell, tall } = at;
      const rows = Math.min(ROWS, panel.rows);
      const top = 46;
      const under = top + HIGH * tall + 10;
      const box = (name, x, y) => group("rect", { class: name, x: x + 0.75, y: y + 0.75, width: cell - 1.5, height: tall - 1.5, rx: 2.5 });
      group("text", { class: "title", x: 0, y: 14 }, `${panel.name}: ${panel.queries}`);
      group("text", { class: "note", x: 0, y: 32 }, `${panel.whose}, times the keys of one K/V head`);
      group("text", { class: "note end", x: left - 8, y: top + (HIGH * tall) / 2 + 4 }, at.left > 120 ? "keys, from memory" : "keys");
      const keys = Array.from({ length: KEYS }, (_, i) => Array.from({ length: HIGH }, (_, j) => box("cell key moves", left + cell * i, top + tall * j)));
      const wide = (left - 70) / HIGH;
      for (let r = 0; r < rows; r += 1)
        for (let j = 0; j < HIGH; j += 1)
          group("rect", { class: "query", x: 62 + wide * j + 0.5, y: under + tall * r + 0.75, width: Math.max(2, wide - 1), height: tall - 1.5, rx: 2 });
      group("text", { class: "note", x: 0, y: under + (rows * tall) / 2 + 4 }, rows === 1 ? "query" : "queries");
      if (panel.rows > rows) group("text", { class: "note", x: 0, y: under + (rows * tall) / 2 + 20 }, `${rows} drawn`);
      const met = Array.from({ length: KEYS }, (_, i) => Array.from({ length: rows }, (_, r) => box("met moves", left + cell * i, under + tall * r)));
      const foot = under + at.rows[which] * tall + 16;
      const track = at.panel - 170;
      [["memory", panel.memory], ["processor", panel.processor]].forEach(([name, part], i) => {
        const y = foot + 24 * i;
        group("text", { class: "note", x: 0, y: y + 11 }, `${name} busy`);
        group("rect", { class: "track", x: 100, y, width: track, height: 14, rx: 3 });
        group("rect", { class: name, x: 100, y, width: Math.max(1.5, track * (part ?? 0)), height: 14, rx: 3 });
        group("text", { class: "note end", x: at.panel, y: y + 11 }, per(part));
      });
      return { keys, met };
    });
  },
  draw(panels, at, data, step) {
    for (const { keys, met } of panels) {
      const mark = (cells, i) => {
        for (const cell of cells) for (const [name, is] of [["gone", i < step], ["before", i < step], ["now", i === step], ["ahead", i > step]]) cell.classList.toggle(name, is);
      };
      keys.forEach(mark);
      met.forEach(mark);
    }
  },
  says(data, step) {
    const [one, many] = data.panels;
    if (step < KEYS - 1)
      return `A key arrives from memory. In decode ${one.queries} ${one.rows === 1 ? "meets" : "meet"} it, then it is thrown away; in prefill ${many.queries} wait for it.`;
    return `Decode computes ${one.intensity} operations for each byte that it reads, prefill ${many.intensity}: decode keeps the processor ${per(one.processor)} busy, prefill ${per(many.processor)}. Sharing adds rows in decode; prefill has enough of them.`;
  },
});
