// Positions of everything in the head map. Nothing here touches the page, so tests/ui/test_head_map.py runs it in node.

const CELLS = 14; // cached tokens drawn in a full column

/** All positions and sizes for this width, in pixels. */
function layout(width, data) {
  const { nHeads: n, nKv, stage } = data;
  const wide = width >= 620;
  const left = wide ? 104 : 2;
  const room = width - left - 4;
  const group = n / nKv;
  // heads that do not fit in one row stand in columns of 2, 4, …; the heads of a column are neighbours
  let rows = 1;
  while (room / Math.ceil(n / rows) < 8.5 && rows < 16) rows *= 2;
  const columns = Math.ceil(n / rows);
  const gapped = group > 1 && nKv > 1 && group % rows === 0;
  const gaps = gapped ? 0.75 * (nKv - 1) : 0;
  const pitch = Math.min(52, room / (columns + gaps));
  const used = pitch * (columns + gaps);
  const x0 = left + (room - used) / 2 + pitch / 2;
  const columnX = (column) => {
    const crossed = gapped ? Math.floor((column * rows) / group) : 0;
    return x0 + pitch * (column + 0.75 * crossed);
  };
  const rowPitch = rows === 1 ? 0 : Math.min(pitch, 16);
  const radius = Math.min(13, pitch * 0.4, rows > 1 ? rowPitch * 0.42 : 99);
  const label = wide ? 0 : 20;
  const top = (stage > 0 ? 46 : 0) + label + radius + 3;
  const headsBottom = top + rowPitch * (rows - 1) + radius;
  const unitTop = headsBottom + (wide ? 88 : 76);
  const cacheHeight = (wide ? 132 : 112) + (data.room ?? 0);
  const unitWidth = Math.max(3, Math.min(30, pitch * 0.72));
  const capHeight = rows > 1 ? 7 : Math.max(9, Math.min(20, unitWidth * 0.9));
  const unitHeight = (cacheHeight + capHeight * rows) / rows;
  const slot = (i) => ({
    x: columnX(Math.floor(i / rows)),
    head: top + rowPitch * (i % rows),
    unit: unitTop + (unitHeight + 3) * (i % rows),
  });
  const keeper = (i) => {
    const first = Math.floor(i / group) * group;
    return first + Math.floor((group - 1) / 2);
  };
  // a kept K/V head moves to the top of its column; if a column keeps several, each stays in its own row
  const keptSlot = (i) => ({ ...slot(i), unit: group >= rows ? unitTop : slot(i).unit });
  const height = unitTop + (unitHeight + 3) * rows + 4 + label;
  return { wide, left, rows, pitch, radius, slot, keptSlot, keeper, group, unitWidth, capHeight, unitHeight, unitTop, top, headsBottom, height, label, width };
}

/** Query head i, its K/V head's slot in MHA, the K/V head that it reads, and the line to it. `kept`: K/V head i stays. */
function standing(at, data, i) {
  const here = at.slot(i);
  const kv = Math.floor(i / at.group);
  const kept = i === at.keeper(i);
  const read = at.keptSlot(at.keeper(i));
  const ratio = data.latent ? Math.min(data.latentWidth, (at.pitch * data.nHeads) / at.unitWidth) : 1;
  const width = at.unitWidth * ratio;
  const named = kept && width >= 13 && at.capHeight >= 11 && !data.latent;
  return {
    kv, kept,
    head: { x: here.x, y: here.head, radius: at.radius, label: at.radius >= 8.4 ? String(i) : "" },
    slot: { x: here.x, y: here.unit, width: at.unitWidth, height: at.unitHeight },
    unit: { x: read.x, y: read.unit, width, height: at.unitHeight, label: named ? String(kv) : "" },
    link: { x1: here.x, y1: here.head + at.radius + 1, x2: read.x, y2: read.unit - 3 },
    flow: { x: here.x, y1: at.top - at.radius - at.label - 20, y2: here.head - at.radius - 2 },
  };
}

/** The cached tokens of a column and the new token's cell, in pixels from the column's top. */
function cells(at, data) {
  const cell = (at.unitHeight - at.capHeight) / (CELLS + 1);
  const full = at.unitHeight - at.capHeight - 2;
  const room = data.stage ? cell : 0; // for the new token's cell
  const bottom = at.unitHeight - room;
  const top = Math.max(at.capHeight + 2, bottom - (full - room) * data.held);
  const y = data.stage >= 2 ? at.unitHeight - cell : at.capHeight + 2;
  return { cell, bottom, top, fresh: { y, height: Math.max(2, cell - 1) } };
}

/** Names of the rows, and the bar above them: the new token or, in the last step, the output. */
function words(at, data) {
  const many = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
  const kvName = data.latent ? "1 latent" : data.shared ? "shared K/V" : many(data.nKv, "K/V head");
  const cache = `and ${data.nKv === 1 ? "its" : "their"} cache`;
  const heads = many(data.nHeads, "query head");
  const [first, last] = [at.slot(0).x - at.radius, at.slot(data.nHeads - 1).x + at.radius];
  const token = { x: first, y: 1, width: Math.max(last - first, 120), height: 24 };
  const output = at.wide ? "heads' results side by side, times W_O: the layer's output" : "concatenate, times W_O";
  const input = at.wide ? "the new token's hidden state" : "the new token";
  const tokenText = { x: first + token.width / 2, y: 13.5, text: data.stage > 0 ? (data.stage === 4 ? output : input) : "" };
  if (at.wide)
    return {
      q: { x: 0, y: at.top + 4, text: heads },
      qn: { x: 0, y: at.top + 21, text: at.group > 1 ? `${at.group} per ${data.latent ? "latent" : "K/V head"}` : "" },
      kv: { x: 0, y: at.unitTop + 12, text: kvName },
      kvn: { x: 0, y: at.unitTop + 29, text: cache },
      token, tokenText,
    };
  return {
    q: { x: 0, y: at.top - at.radius - 10, text: heads },
    qn: { x: 0, y: -99, text: "" },
    kv: { x: 0, y: at.height - 6, text: `${kvName} ${cache}` },
    kvn: { x: 0, y: -99, text: "" },
    token, tokenText,
  };
}
