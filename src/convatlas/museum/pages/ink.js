"use strict";
// A drawing brought to the look of a data set of bright ink on black, as convatlas/images/ink.py and Pillow do it.

const FAINTEST = 25;

/** Gray levels of the pixels of a canvas. */
function grayImage(canvas) {
  const { width, height } = canvas, bytes = canvas.getContext("2d").getImageData(0, 0, width, height).data, values = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < values.length; i++, at += 4) values[i] = (19595 * bytes[at] + 38470 * bytes[at + 1] + 7471 * bytes[at + 2] + 32768) >> 16;
  return { values, width, height };
}

/** How far each gray level is from the paper, which lies along the edges, towards the ink; null where there is no ink. */
function inkOf({ values, width, height }) {
  const there = new Array(256).fill(false), edges = [];
  for (const value of values) there[value] = true;
  for (let x = 0; x < width; x++) edges.push(values[x], values[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) edges.push(values[y * width], values[y * width + width - 1]);
  edges.sort((a, b) => a - b);
  const paper = (edges[edges.length / 2 - 1] + edges[edges.length / 2]) / 2;
  const ink = (isBright) => {
    const levels = there.map((_, level) => Math.max(0, isBright ? level - paper : paper - level));
    return { isBright, levels, strongest: Math.max(...levels.filter((_, level) => there[level])) };
  };
  const expected = ink(paper <= 127), other = ink(paper > 127);
  const found = expected.strongest < FAINTEST && other.strongest >= FAINTEST ? other : expected;
  return found.strongest < FAINTEST ? null : found;
}

/** The ink in the middle of a square frame of which it spans a part, as in the training images; null where there is none. */
function reframed(image, part) {
  const { values, width, height } = image, found = inkOf(image);
  if (!found) return null;
  const least = Math.fround(Math.fround(0.4) * found.strongest), factor = Math.fround(255 / found.strongest);
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let i = 0; i < values.length; i++) {
    if (found.levels[values[i]] <= least) continue;
    const x = i % width, y = Math.floor(i / width);
    left = Math.min(left, x); right = Math.max(right, x + 1); top = Math.min(top, y); bottom = Math.max(bottom, y + 1);
  }
  const bright = found.levels.map((level) => Math.min(255, rounded(Math.fround(level * factor))));
  let ink = { values: new Uint8Array((right - left) * (bottom - top)), width: right - left, height: bottom - top };
  for (let i = 0; i < ink.values.length; i++) ink.values[i] = bright[values[(top + Math.floor(i / ink.width)) * width + left + (i % ink.width)]];
  const longest = Math.max(ink.width, ink.height);
  if (longest > 512) ink = resize(ink, ...[ink.width, ink.height].map((length) => Math.max(rounded(length * 512 / longest), 1)), CUBIC);
  const side = rounded(Math.max(ink.width, ink.height) / part), frame = new Uint8Array(side * side);
  const [dx, dy] = [Math.floor((side - ink.width) / 2), Math.floor((side - ink.height) / 2)];
  for (let i = 0; i < ink.values.length; i++) frame[(Math.floor(i / ink.width) + dy) * side + (i % ink.width) + dx] = ink.values[i];
  return { values: frame, width: side, height: side };
}

/** To the nearest whole number, of two the even one. */
function rounded(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

/** Filters: how far they reach, and their weight at a distance. */
const LINEAR = { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
const CUBIC = { reach: 2, weight: (x) => cubic(Math.abs(x)) };
function cubic(x) { return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0; }

/** A gray image of bytes resized as Pillow does it, with antialiasing: rows first, rounded after each pass. */
function resize({ values, width, height }, toWidth, toHeight, { reach, weight } = LINEAR) {
  /** Lines of `length` values become lines of `to`; a line's values are `step` apart, before and after. */
  const pass = (given, length, to, lines, step, before, after) => {
    if (length === to) return given;
    const scale = length / to, wide = Math.max(scale, 1), out = new Uint8Array(to * lines);
    for (let i = 0; i < to; i++) {
      const center = (i + 0.5) * scale, from = Math.max(0, Math.floor(center - reach * wide + 0.5)), until = Math.min(length, Math.floor(center + reach * wide + 0.5));
      const shares = Array.from({ length: until - from }, (_, k) => weight((from + k + 0.5 - center) / wide)), all = shares.reduce((sum, share) => sum + share, 0);
      for (let line = 0; line < lines; line++) {
        let sum = 0;
        for (let k = 0; k < shares.length; k++) sum += shares[k] * given[line * before + (from + k) * step];
        out[line * after + i * step] = Math.min(255, Math.max(0, Math.floor(sum / all + 0.5)));
      }
    }
    return out;
  };
  const rows = pass(values, width, toWidth, height, 1, width, toWidth);
  return { values: pass(rows, height, toHeight, toWidth, toWidth, 1, 1), width: toWidth, height: toHeight };
}
