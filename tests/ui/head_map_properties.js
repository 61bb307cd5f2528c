// Properties of the head map's layout at every size. test_head_map.py runs this file in node after layout.js, whose
// functions it calls. It prints the number of layouts it has checked and the layouts that break each property. With a
// name in `only` it searches the first layout that breaks that property.

const long = (text, size) => text.length * size * 0.5; // a letter of these words takes 0.47 em in semi-bold Source Sans
const TALL = 0.66 * 13; // height of its capitals in the names of rows
const near = (a, b) => Math.abs(a - b) < 1e-6;
const within = (low, value, high) => low - 1e-6 <= value && value <= high + 1e-6;
const overlap = (a, b) =>
  Math.abs(a.x - b.x) < (a.width + b.width) / 2 - 1e-6 && a.y < b.y + b.height - 1e-6 && b.y < a.y + a.height - 1e-6;
// items stand in order, in columns of `rows`: an item that overlaps one further away also overlaps one of the last column
const anyTwo = (items, rows, wrong) => {
  for (let i = 0; i < items.length; i++)
    for (let j = Math.max(0, i - 2 * rows); j < i; j++) if (wrong(items[i], items[j])) return true;
  return false;
};

const PROPERTIES = {
  "each query head is joined to the K/V head of its group": ({ n, nKv, heads, kept }) =>
    heads.every(({ head, link }, i) => {
      const ends = kept.filter(({ unit }) => near(unit.x, link.x2) && within(unit.y - 4, link.y2, unit.y));
      const begins = near(head.x, link.x1) && within(head.y + head.radius, link.y1, head.y + head.radius + 2);
      return begins && ends.length === 1 && ends[0].kv === Math.floor(i / (n / nKv));
    }),
  "each K/V head is kept once, on a slot of its own group": ({ n, nKv, heads, kept }) =>
    kept.length === nKv &&
    kept.every(({ kv, unit }, j) => kv === j && heads.some(({ slot }, i) => Math.floor(i / (n / nKv)) === kv && near(slot.x, unit.x))),
  "a K/V head that is not kept lies on the one of its group": ({ heads, kept }) =>
    heads.every(({ kv, unit }) => near(unit.x, kept[kv].unit.x) && near(unit.y, kept[kv].unit.y)),
  "query heads do not overlap": ({ at, heads }) =>
    !anyTwo(heads.map(({ head }) => head), at.rows, (a, b) => (a.x - b.x) ** 2 + (a.y - b.y) ** 2 < 4 * a.radius ** 2 - 1e-6),
  "slots do not overlap": ({ at, heads }) => !anyTwo(heads.map(({ slot }) => slot), at.rows, overlap),
  "K/V heads do not overlap": ({ at, kept }) => !anyTwo(kept.map(({ unit }) => unit), at.rows, overlap),
  "query heads stand in order, in columns of neighbours": ({ at, heads }) =>
    [1, 2, 4, 8, 16].includes(at.rows) &&
    heads.every(({ head }, i) => {
      if (i === 0) return true;
      const before = heads[i - 1].head;
      return i % at.rows ? near(head.x, before.x) && head.y > before.y : head.x > before.x && near(head.y, at.top);
    }),
  "groups that fill their columns stand apart": ({ n, nKv, at, heads }) => {
    if (nKv === 1 || nKv === n || (n / nKv) % at.rows) return true;
    const steps = heads.slice(1).map(({ head }, i) => [head.x - heads[i].head.x, (i + 1) % (n / nKv) === 0]);
    const inside = Math.max(...steps.filter(([, apart]) => !apart).map(([step]) => step), at.pitch);
    return steps.every(([step, apart]) => !apart || step > 1.5 * inside);
  },
  "everything is inside the drawing": ({ at, heads, text }) =>
    heads.every(({ head, slot, unit }) =>
      within(0, head.x - head.radius, at.width) && within(0, head.x + head.radius, at.width) && within(0, head.y - head.radius, at.height) &&
      [slot, unit].every((box) => within(0, box.x - box.width / 2, at.width) && within(0, box.x + box.width / 2, at.width) && within(0, box.y + box.height, at.height))) &&
    within(0, text.token.x, at.width) && within(0, text.token.x + text.token.width, at.width),
  "K/V heads stand below all query heads, and the new token above": ({ at, data, heads, text }) =>
    heads.every(({ head, unit, link, flow }) =>
      link.y1 < link.y2 && unit.y > at.headsBottom && head.y + head.radius <= at.headsBottom + 1e-6 && flow.y1 < flow.y2 &&
      (data.stage === 0 || text.token.y + text.token.height <= flow.y1 + 1e-6)),
  "numbers lie inside what they name": ({ at, heads }) =>
    heads.every(({ head, unit }) =>
      long(head.label, 10.5) <= 2 * head.radius && long(unit.label, 10.5) <= unit.width && (unit.label === "" || at.capHeight >= 10.5)),
  "names of rows lie beside or between the rows": ({ at, text }) => {
    const shown = [text.q, text.qn, text.kv, text.kvn].filter((row) => row.text);
    const inside = shown.every((row, i) => row.x >= 0 && within(TALL, row.y, at.height - 2) && row.x + long(row.text, i % 2 && at.wide ? 12 : 13) <= at.width);
    if (at.wide) return inside && shown.every((row) => row.x + long(row.text, row === text.q || row === text.kv ? 13 : 12) <= at.left);
    return inside && text.q.y + 4 <= at.top - at.radius && text.kv.y - 10 >= at.unitTop + (at.unitHeight + 3) * at.rows - 3;
  },
  "the word for the new token is inside the drawing": ({ at, text }) => {
    const half = long(text.tokenText.text, 12) / 2;
    return within(0, text.tokenText.x - half, at.width) && within(0, text.tokenText.x + half, at.width);
  },
  "cached tokens fill their part of a column": ({ at, data, held }) => {
    const floor = at.capHeight + 2;
    const whole = at.unitHeight - floor - (data.stage ? held.cell : 0);
    const part = held.top === floor ? whole : data.held * whole;
    return within(floor, held.top, held.bottom) && within(held.bottom, at.unitHeight, at.unitHeight + held.cell) && near(held.bottom - held.top, part);
  },
  "the new token's cell is in the column, below what is cached once it is appended": ({ at, data, held }) =>
    data.stage === 0 ||
    (within(at.capHeight, held.fresh.y, at.unitHeight) && held.fresh.y + held.fresh.height <= at.unitHeight + 2 && (data.stage < 2 || held.fresh.y >= held.bottom - 1e-6)),
};

const WIDTHS = [619, 620];
for (let width = 260; width <= 1600; width += 67) WIDTHS.push(width);
const SIZES = [160, 192, 240, 256];
for (let n = 1; n <= 128; n++) SIZES.push(n);
const KINDS = [{}, { stage: 1, held: 0.4 }, { stage: 4, held: 0.02 }, { latent: true, latentWidth: 1.8, stage: 3 }, { shared: true }];

const asked = Object.entries(PROPERTIES).filter(([name]) => only === null || name === only);
const broken = Object.fromEntries(asked.map(([name]) => [name, []]));
let layouts = 0;
search: for (const n of SIZES)
  for (let nKv = 1; nKv <= n; nKv++)
    for (const kind of n % nKv ? [] : KINDS)
      for (const width of kind.latent && nKv > 1 ? [] : WIDTHS) {
        const data = { nHeads: n, nKv, stage: 0, held: 1, latent: false, latentWidth: 1, shared: false, ...kind };
        const at = layout(width, data);
        const heads = Array.from({ length: n }, (_, i) => standing(at, data, i));
        const seen = { n, nKv, data, at, heads, kept: heads.filter(({ kept }) => kept), held: cells(at, data), text: words(at, data) };
        layouts += 1;
        for (const [name, holds] of asked)
          if (broken[name].length < 5 && !holds(seen)) broken[name].push(`${n} heads, ${nKv} K/V heads, ${width} px, ${JSON.stringify(kind)}`);
        if (only && broken[only].length) break search;
      }
console.log(JSON.stringify({ layouts, broken }));
