export default pictureOf({
  everyMs: 1700,
  last: (data) => data.steps.length - 1,
  layout(width, data) {
    const n = data.steps[0].boxes.length;
    const most = data.steps[0].boxes[0].length;
    const across = Math.min(n, Math.max(2, Math.min(8, Math.floor(width / 92))));
    const box = (width - 10 * (across - 1)) / across;
    const side = Math.max(6, Math.min(18, Math.sqrt(((box - 16) * 64) / most) - 3));
    const inRow = Math.max(1, Math.floor((box - 16) / (side + 3)));
    const tall = 34 + Math.ceil(most / inRow) * (side + 3) + 8;
    const foot = Math.ceil(n / across) * (tall + 10) + 8;
    return { across, box, side, inRow, tall, width, foot, height: foot + 74 };
  },
  build(pen, at, data) {
    const boxes = data.steps[0].boxes.map((squares, i) => {
      const group = penOn(pen("g", { transform: `translate(${(i % at.across) * (at.box + 10)}, ${Math.floor(i / at.across) * (at.tall + 10)})` }));
      group("rect", { class: "box", x: 0.5, y: 0.5, width: at.box - 1, height: at.tall - 1, rx: 8 });
      group("text", { class: "note", x: 8, y: 19 }, at.box > 110 ? `accelerator ${i}` : `no. ${i}`);
      const heads = squares.map((_, j) => {
        const [x, y] = [8 + (j % at.inRow) * (at.side + 3), 30 + Math.floor(j / at.inRow) * (at.side + 3)];
        const head = group("g", { class: "square moves" });
        const draw = penOn(head);
        const rect = draw("rect", { class: "head moves", x, y, width: at.side, height: at.side, rx: 3 });
        const s = at.side;
        draw("path", { class: "hatch moves", d: [0.3, 0.65, 1].map((t) => `M${x} ${y + s * t}L${x + s * t} ${y}`).join("") + `M${x + s * 0.35} ${y + s}L${x + s} ${y + s * 0.35}M${x + s * 0.7} ${y + s}L${x + s} ${y + s * 0.7}` });
        return { head, rect };
      });
      const copy = group("text", { class: "note", x: 8 + at.side + 8, y: 30 + at.side / 2 + 4 });
      return { heads, copy };
    });
    const left = 176;
    const track = Math.max(40, at.width - left - 62);
    const narrow = at.width < 480;
    const bar = (name, text, y) => {
      pen("text", { class: "note", x: 0, y: y + 13 }, text);
      const x = narrow ? 116 : left;
      return [pen("rect", { class: `bar ${name}`, x, y, width: 0, height: 17, rx: 3 }), pen("text", { class: "note", y: y + 13 }), x];
    };
    return {
      boxes, track: narrow ? at.width - 116 - 62 : track,
      needed: bar("needed", narrow ? "without copies" : "each would, without copies", at.foot + 2),
      kept: bar("kept", narrow ? "each keeps" : "each keeps, of MHA's cache", at.foot + 28),
    };
  },
  draw(parts, at, data, step) {
    const shown = data.steps[step];
    parts.boxes.forEach(({ heads, copy }, i) => {
      const colors = shown.boxes[i];
      heads.forEach(({ head, rect }, j) => {
        head.classList.toggle("off", j >= colors.length);
        head.classList.toggle("copy", shown.copied[i]);
        if (j < colors.length) rect.style.fill = colors[j];
      });
      copy.textContent = shown.copied[i] ? "copy" : "";
    });
    const scale = parts.track / data.steps[0].kept;
    for (const name of ["needed", "kept"]) {
      const [rect, text, x] = parts[name];
      const width = Math.max(1.5, shown[name] * scale);
      rect.style.width = `${width}px`;
      text.setAttribute("x", x + width + 6);
      text.textContent = shown[`${name}Text`];
    }
    parts.kept[0].classList.toggle("more", shown.kept > shown.needed);
  },
  says: (data, step) => data.steps[step].says,
});
