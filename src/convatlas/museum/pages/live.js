"use strict";
// LeNet-5 in the page. Its weights come with a click, as a classic script: pages in a folder may not fetch files.

/** A trained LeNet-5 that reads images of numbers as the package's own does. */
function makeReader(data) {
  const decode = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  };
  const weights = {};
  for (const [name, value] of Object.entries(data)) {
    if (typeof value === "object" && value !== null) {
      weights[name] = Object.fromEntries(Object.entries(value).map(([key, text]) => [key, decode(text)]));
    }
  }
  const codes = decode(data.codes), squash = (x) => 1.7159 * Math.tanh(x * (2 / 3));

  function convolution({ weight, bias }, maps, side, kernel) {
    const out = side - kernel + 1, given = [];
    for (let m = 0; m < bias.length; m++) {
      const map = new Float64Array(out * out).fill(bias[m]);
      maps.forEach((read, i) => {
        const at = (m * maps.length + i) * kernel * kernel;
        for (let ky = 0; ky < kernel; ky++) {
          for (let kx = 0; kx < kernel; kx++) {
            const factor = weight[at + ky * kernel + kx];
            if (factor === 0) continue;
            for (let y = 0; y < out; y++) {
              for (let x = 0; x < out; x++) map[y * out + x] += factor * read[(y + ky) * side + x + kx];
            }
          }
        }
      });
      given.push(map.map(squash));
    }
    return given;
  }

  function subsampling({ coefficient, bias }, maps, side) {
    const half = side / 2;
    return maps.map((map, m) => Float64Array.from({ length: half * half }, (_, i) => {
      const at = 2 * Math.floor(i / half) * side + 2 * (i % half);
      return squash(coefficient[m] * (map[at] + map[at + 1] + map[at + side] + map[at + side + 1]) + bias[m]);
    }));
  }

  /** All layers' outputs for an image of side x side numbers, normalized already. */
  return (image) => {
    const side = Math.sqrt(image.length), before = Math.floor((32 - side) / 2);
    const input = new Float64Array(32 * 32).fill(data.background);
    image.forEach((value, i) => { input[(before + Math.floor(i / side)) * 32 + before + (i % side)] = value; });
    const c1 = convolution(weights.c1, [input], 32, 5), s2 = subsampling(weights.s2, c1, 28);
    const c3 = convolution(weights.c3, s2, 14, 5), s4 = subsampling(weights.s4, c3, 10);
    const c5 = convolution(weights.c5, s4, 5, 5).map((map) => map[0]);
    const f6 = Array.from(weights.f6.bias, (bias, m) => squash(c5.reduce((sum, value, i) => sum + value * weights.f6.weight[m * 120 + i], bias)));
    const outputs = Array.from({ length: 10 }, (_, digit) => -f6.reduce((sum, value, i) => sum + (value - codes[digit * 84 + i]) ** 2, 0));
    return { input: [input], c1, s2, c3, s4, c5, f6, outputs, codes };
  };
}

/** A gray image of bytes resized as Pillow does it, bilinear with antialiasing: rows first, rounded after each pass. */
function resize(image, width, height, side) {
  const pass = (values, length, other, at) => {
    const scale = length / side, reach = Math.max(scale, 1), out = [];
    for (let to = 0; to < side; to++) {
      const center = (to + 0.5) * scale, from = Math.max(0, Math.floor(center - reach + 0.5)), until = Math.min(length, Math.floor(center + reach + 0.5));
      const shares = Array.from({ length: until - from }, (_, i) => Math.max(0, 1 - Math.abs((from + i + 0.5 - center) / reach)));
      const all = shares.reduce((sum, share) => sum + share, 0);
      for (let line = 0; line < other; line++) {
        out[at(to, line, true)] = Math.min(255, Math.floor(shares.reduce((sum, share, i) => sum + share * values[at(from + i, line, false)], 0) / all + 0.5));
      }
    }
    return out;
  };
  const rows = pass(image, width, height, (x, y, done) => y * (done ? side : width) + x);
  return pass(rows, height, side, (y, x) => y * side + x);
}

(() => {
  const byId = (id) => document.getElementById(id);
  const pen = byId("pen"), context = pen.getContext("2d", { willReadFrequently: true });
  let read = null, data = null;

  // The ink in the middle of a frame, at the size that it has in the training images.
  function framed() {
    const side = pen.width, bytes = context.getImageData(0, 0, side, side).data;
    const gray = Array.from({ length: side * side }, (_, i) => bytes[4 * i]), strongest = gray.reduce((a, b) => Math.max(a, b), 0);
    if (strongest < 25) return null;
    if (!data.ink) return { gray, side };
    let [left, top, right, bottom] = [side, side, 0, 0];
    gray.forEach((value, i) => {
      if (value <= 0.4 * strongest) return;
      const x = i % side, y = Math.floor(i / side);
      left = Math.min(left, x); right = Math.max(right, x + 1); top = Math.min(top, y); bottom = Math.max(bottom, y + 1);
    });
    const [width, height] = [right - left, bottom - top], frame = Math.round(Math.max(width, height) / data.ink);
    const [dx, dy] = [Math.floor((frame - width) / 2), Math.floor((frame - height) / 2)], result = new Array(frame * frame).fill(0);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) result[(y + dy) * frame + x + dx] = gray[(top + y) * side + left + x];
    }
    return { gray: result, side: frame };
  }

  function look() {
    const begun = performance.now(), ink = framed();
    if (!ink) {
      byId("reads").textContent = "–";
      byId("took").textContent = "";
      byId("maps").replaceChildren();
      byId("distances").replaceChildren();
      byId("distances-text").textContent = "Nothing is drawn yet.";
      return;
    }
    let image = resize(ink.gray, ink.side, ink.side, Math.min(data.native, data.side));
    if (data.native < data.side) image = resize(image, data.native, data.native, data.side);
    const seen = read(image.map((value) => (value / 255 - data.mean) / data.std));
    const best = seen.outputs.indexOf(Math.max(...seen.outputs));
    byId("reads").textContent = best;
    byId("took").textContent = `in ${(performance.now() - begun).toFixed(1)} ms`;
    showDistances(seen, best);
    showMaps(seen, best);
  }

  function showDistances({ outputs, codes }, best) {
    const svg = byId("distances"), most = Math.max(...outputs.map((value) => -value));
    svg.replaceChildren();
    outputs.forEach((value, digit) => {
      const y = 6 + 24 * digit;
      for (let i = 0; i < 84; i++) {
        if (codes[digit * 84 + i] > 0) draw(svg, "rect", { x: 2 + 1.8 * (i % 7), y: y + 1.7 * Math.floor(i / 7), width: 1.8, height: 1.7, class: "dot" });
      }
      draw(svg, "text", { x: 24, y: y + 15 }, digit);
      draw(svg, "rect", { x: 44, y: y + 2, width: 330 * -value / most, height: 16, class: digit === best ? "bar-d" : "bar-c" });
      draw(svg, "text", { x: 50 + 330 * -value / most, y: y + 15 }, (-value).toFixed(1));
    });
    byId("distances-text").textContent = `Squared distances of F6 to the bitmaps of the digits; the nearest is ${best}, at ${(-outputs[best]).toFixed(1)}.`;
  }

  function showMaps({ input, c1, s2, c3, s4, c5, f6, codes }, best) {
    const layers = [
      ["input", input, 32], ["C1", c1, 28], ["S2", s2, 14], ["C3", c3, 10], ["S4", s4, 5], ["C5, 120 units", [c5], 12],
      ["F6, 84 units as 7 x 12", [f6], 7], [`the bitmap of ${best}`, [codes.slice(best * 84, best * 84 + 84)], 7],
    ];
    byId("maps").replaceChildren(...layers.map(([name, maps, width]) => {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = name;
      figure.append(...maps.map((map) => {
        const canvas = document.createElement("canvas"), height = map.length / width;
        [canvas.width, canvas.height] = [width, height];
        canvas.style.aspectRatio = `${width} / ${height}`;
        canvas.setAttribute("aria-hidden", "true");
        const pixels = new ImageData(width, height);
        map.forEach((value, i) => {
          const level = 255 * (value + 1.7159) / 3.4318;
          pixels.data.set([level, level, level, 255], 4 * i);
        });
        canvas.getContext("2d").putImageData(pixels, 0, 0);
        return canvas;
      }), caption);
      return figure;
    }));
  }

  function clear() {
    context.fillStyle = "black";
    context.fillRect(0, 0, pen.width, pen.height);
  }

  // The pen.
  let last = null;
  const place = (event) => {
    const box = pen.getBoundingClientRect();
    return [(event.clientX - box.left) * pen.width / box.width, (event.clientY - box.top) * pen.height / box.height];
  };
  pen.addEventListener("pointerdown", (event) => {
    pen.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last);
  });
  pen.addEventListener("pointermove", (event) => { if (last) stroke(place(event)); });
  for (const name of ["pointerup", "pointercancel"]) pen.addEventListener(name, () => { last = null; });
  function stroke(to) {
    context.strokeStyle = "white";
    context.lineWidth = 20;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
    if (read) look();
  }
  byId("clear").addEventListener("click", () => { clear(); look(); });

  // For who cannot draw: the strokes of each digit.
  const strokes = [
    "M140 50C80 50 80 230 140 230S200 50 140 50", "M110 80L145 50V230", "M90 90C100 30 200 40 190 110C180 150 110 190 90 225H200", "M95 60H190L140 125C210 125 210 230 140 230Q105 230 90 205",
    "M160 230V50L80 170H205", "M190 55H110L100 130C140 105 200 120 195 180C190 240 110 240 90 205", "M175 50C120 80 90 140 95 185C100 245 195 240 190 180C185 130 110 130 97 180",
    "M85 60H195L130 230", "M140 135C80 110 95 50 140 50S200 110 140 135C70 160 85 230 140 230S210 160 140 135", "M190 95C185 40 100 40 100 100C100 150 180 150 190 95Q190 170 165 230",
  ];
  strokes.forEach((path, digit) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = digit;
    button.addEventListener("click", () => {
      clear();
      context.strokeStyle = "white";
      context.lineWidth = 20;
      context.lineCap = context.lineJoin = "round";
      context.stroke(new Path2D(path));
      look();
    });
    byId("samples").append(button);
  });

  byId("asleep").hidden = false;
  byId("wake").addEventListener("click", () => {
    const script = document.createElement("script");
    script.src = "data/live.js";
    script.addEventListener("load", () => {
      data = LIVE;
      read = makeReader(data);
      // Before the pen needs it the browser has compiled it.
      for (let i = 0; i < 3; i++) read(new Array(data.side ** 2).fill(0));
      byId("asleep").hidden = true;
      byId("live").hidden = false;
      clear();
      look();
      byId("live").querySelector("button").focus();
    });
    script.addEventListener("error", () => {
      byId("trouble").textContent = "data/live.js is missing: build the museum anew, or copy the whole folder.";
      byId("trouble").hidden = false;
    });
    document.head.append(script);
  });
})();
