const HEADS = 6; // so many are drawn; they stand for all heads
const said = (n) => n.toLocaleString("en-US");

export default pictureOf({
  everyMs: 2600,
  last: () => 3,
  layout(width) {
    const wide = width >= 620;
    return { wide, width, c: width * 0.36, h: width * 0.66, height: 330, bars: 224 };
  },
  build(pen, at, data) {
    const kept = data.rank + data.turned;
    const parts = { squeeze: [], keep: [], unfold: [], fold: [] };
    const into = (name, ...element) => { parts[name].push(pen(...element)); return parts[name].at(-1); };
    const note = (name, x, y, text, kind = "note") => into(name, "text", { class: `${kind} moves`, x, y }, text);
    const arrow = (name, x1, y1, x2, y2) => into(name, "path", { class: "arrow moves", d: `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}` });
    pen("text", { class: "title", x: 0, y: 14 }, "the token");
    pen("text", { class: "note", x: 0, y: 32 }, data.hidden ? `${said(data.hidden)} numbers` : "");
    pen("rect", { class: "token", x: 0, y: 42, width: 26, height: 120, rx: 4 });

    note("squeeze", at.c, 14, "latent vector", "title");
    note("squeeze", at.c, 32, `${said(data.rank)} + ${said(data.turned)}${at.wide ? " numbers" : ""}`);
    arrow("squeeze", 30, 100, at.c - 6, 80);
    into("squeeze", "rect", { class: "vector moves", x: at.c, y: 56, width: 16, height: 48, rx: 3 });
    into("squeeze", "rect", { class: "turned moves", x: at.c, y: 106, width: 16, height: 8, rx: 2 });

    note("keep", at.c - 84, 190, at.wide ? "the cache: one such column for each token" : "the cache");
    for (let i = 0; i < 7; i += 1) {
      into("keep", "rect", { class: "vector moves", x: at.c - 84 + 14 * i, y: 136, width: 10, height: 32, rx: 2 });
      into("keep", "rect", { class: "turned moves", x: at.c - 84 + 14 * i, y: 169, width: 10, height: 6, rx: 2 });
    }

    const step = Math.min(44, (at.width - at.h - 4) / HEADS);
    note("unfold", at.h, 14, at.wide ? `keys and values of ${data.nHeads} heads` : `${data.nHeads} heads`, "title");
    note("unfold", at.h, 32, at.wide ? `${data.key} + ${data.value} numbers each, never kept` : "never kept");
    for (let i = 0; i < HEADS; i += 1) {
      if (i < HEADS) arrow("unfold", at.c + 20, 84, at.h + step * i + step / 2, 56);
      into("unfold", "rect", { class: "head moves", x: at.h + step * i, y: 58, width: step * 0.38, height: 30, rx: 2 });
      into("unfold", "rect", { class: "head moves", x: at.h + step * i + step * 0.44, y: 58, width: step * 0.38, height: 30, rx: 2 });
    }

    note("fold", at.h, 124, at.wide ? "or: each query is made longer instead" : "or: longer queries", "title");
    note("fold", at.h, 142, at.wide ? `${said(data.rank)} numbers, compared with the latent itself` : `${said(data.rank)} numbers each`);
    for (let i = 0; i < HEADS; i += 1) into("fold", "rect", { class: "query moves", x: at.h + step * i, y: 152, width: step * 0.82, height: 12, rx: 2 });
    arrow("fold", at.h - 6, 158, at.c + 20, 100);

    const bars = [["MHA", data.nHeads * (data.key + data.value)], ["GQA-8", data.gqa], ["MLA", kept]];
    const left = 54;
    const scale = (at.width - left - 60) / bars[0][1];
    pen("text", { class: "title", x: 0, y: at.bars }, at.wide ? "Numbers kept per token in this layer" : "Kept per token and layer");
    bars.forEach(([name, n], i) => {
      const y = at.bars + 12 + 28 * i;
      pen("text", { class: "end", x: left - 8, y: y + 15 }, name);
      pen("rect", { class: `bar ${name === "MLA" ? "own" : ""}`, x: left, y: y + 2, width: Math.max(2, n * scale), height: 18, rx: 2 });
      pen("text", { x: left + Math.max(2, n * scale) + 6, y: y + 15 }, said(n));
    });
    return parts;
  },
  draw(parts, at, data, step) {
    const shown = { squeeze: true, keep: step >= 1, unfold: step === 2, fold: step === 3 };
    for (const [name, elements] of Object.entries(parts)) for (const element of elements) element.classList.toggle("off", !shown[name]);
  },
  says(data, step) {
    const kept = said(data.rank + data.turned);
    return [
      `1 · Squeeze. A matrix takes the token to ${said(data.rank)} numbers, from which all heads' keys and values can be made; ${said(data.turned)} more carry its position.`,
      `2 · Keep. These ${kept} numbers are all that is kept: eight K/V heads of size 128 would be ${said(data.gqa)}, one for each of the ${data.nHeads} query heads ${said(data.nHeads * (data.key + data.value))}.`,
      `3 · Unfold. Each head has a matrix that makes its own key and value from the latent vector, used in this step and thrown away.`,
      `4 · Or fold. The same matrix is multiplied into the query once, so that the query meets the latent vector itself and nothing is unfolded: in decode it works as MQA with one head of ${kept} numbers.`,
    ][step];
  },
});
