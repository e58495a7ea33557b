"use strict";
// LeNets in the page. Their weights come with a click, as a classic script: pages in a folder may not fetch files.

const ACTIVATIONS = { tanh: (x) => 1.7159 * Math.tanh(x * (2 / 3)), relu: (x) => Math.max(x, 0), "": (x) => x };

/** A trained network that reads images of numbers as the package's own does. Maps are square, and units maps of one. */
function makeReader(data) {
  const decode = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const steps = data.steps.map((step) => {
    const numbers = ["weight", "bias", "coefficient", "codes"].filter((name) => name in step);
    return { ...step, ...Object.fromEntries(numbers.map((name) => [name, decode(step[name])])), then: ACTIVATIONS[step.then || ""] };
  });
  const sideOf = (maps) => Math.sqrt(maps[0].length);
  const units = (maps) => Float64Array.from(maps.flatMap((map) => Array.from(map)));

  function bordered(maps, before, wanted, value) {
    const side = sideOf(maps);
    return maps.map((map) => {
      const larger = new Float64Array(wanted * wanted).fill(value);
      map.forEach((one, i) => { larger[(before + Math.floor(i / side)) * wanted + before + (i % side)] = one; });
      return larger;
    });
  }

  const operations = {
    border(maps, { field, value }) {
      const side = sideOf(maps);
      return side < field ? bordered(maps, Math.floor((field - side) / 2), field, value) : maps;
    },
    convolution(maps, { weight, bias, kernel, stride = 1, padding = 0, value, then }) {
      const read = padding ? bordered(maps, padding, sideOf(maps) + 2 * padding, value) : maps;
      const side = sideOf(read), out = Math.floor((side - kernel) / stride) + 1, given = [];
      const number = weight.length / (read.length * kernel * kernel), own = bias.length / number;
      for (let m = 0; m < number; m++) {
        // A bias for the map, or one for each of its units.
        const map = Float64Array.from({ length: out * out }, (_, i) => bias[m * own + (own > 1 ? i : 0)]);
        read.forEach((source, i) => {
          const at = (m * read.length + i) * kernel * kernel;
          for (let ky = 0; ky < kernel; ky++) {
            for (let kx = 0; kx < kernel; kx++) {
              const factor = weight[at + ky * kernel + kx];
              if (factor === 0) continue;
              for (let y = 0; y < out; y++) {
                for (let x = 0; x < out; x++) map[y * out + x] += factor * source[(y * stride + ky) * side + x * stride + kx];
              }
            }
          }
        });
        given.push(map.map(then));
      }
      return given;
    },
    subsampling: (maps, { coefficient, bias, then }) =>
      maps.map((map, m) => squares(map, (a, b, c, d) => then(coefficient[m] * (a + b + c + d) + bias[m]))),
    pooling: (maps, { then }) => maps.map((map) => squares(map, (...four) => then(Math.max(...four)))),
    dense(maps, { weight, bias, then }) {
      const read = units(maps);
      return Array.from(bias, (sum, m) => Float64Array.of(then(read.reduce((all, value, i) => all + value * weight[m * read.length + i], sum))));
    },
    distances(maps, { codes }) {
      const read = units(maps);
      return Array.from({ length: codes.length / read.length }, (_, digit) => Float64Array.of(-read.reduce((sum, value, i) => sum + (value - codes[digit * read.length + i]) ** 2, 0)));
    },
  };

  /** What `make` makes of each 2x2 numbers of a map. */
  function squares(map, make) {
    const side = Math.sqrt(map.length), half = side / 2;
    return Float64Array.from({ length: half * half }, (_, i) => {
      const at = 2 * Math.floor(i / half) * side + 2 * (i % half);
      return make(map[at], map[at + 1], map[at + side], map[at + side + 1]);
    });
  }

  /** The maps of all steps by name, and the outputs, for an image of side x side numbers that are normalized already. */
  return (image) => {
    let maps = [Float64Array.from(image)];
    const seen = {};
    for (const step of steps) {
      maps = operations[step.does](maps, step);
      seen[step.name] = maps;
    }
    return { seen, outputs: Array.from(units(maps)), codes: steps.at(-1).codes };
  };
}

(() => {
  const byId = (id) => document.getElementById(id);
  const pen = byId("pen"), context = pen.getContext("2d", { willReadFrequently: true });
  /** Those that are awake: each with its data and its reader, LeNet-5 first. */
  let readers = [];

  /** The drawing as a network is given it, gray; null where nothing is drawn. */
  function framed(data) {
    const drawn = grayImage(pen);
    return data.ink ? reframed(drawn, data.ink) : inkOf(drawn) && drawn;
  }

  /** What a network makes of the drawing; nothing where nothing is drawn. */
  function reading({ data, read }) {
    let image = framed(data);
    if (!image) return null;
    // As coarse as the training images.
    if (data.native < data.side) image = resize(image, data.native, data.native);
    const { values } = resize(image, data.side, data.side);
    const result = read(Float64Array.from(values, (value) => (value / 255 - data.mean) / data.std));
    return { ...result, best: result.outputs.indexOf(Math.max(...result.outputs)) };
  }

  function look() {
    const begun = performance.now(), [first, ...others] = readers, result = reading(first);
    byId("reads").textContent = result ? result.best : "–";
    byId("took").textContent = result ? `in ${(performance.now() - begun).toFixed(1)} ms` : "";
    if (result) {
      showDistances(result);
      showMaps(result);
    } else {
      byId("maps").replaceChildren();
      byId("distances").replaceChildren();
      byId("distances-text").textContent = "Nothing is drawn yet.";
    }
    for (const other of others) showOutputs(other, result && reading(other));
  }

  /** The ten outputs of a network that stands beside: units from -1.7 to 1.7, or shares of one. */
  function showOutputs({ name, data }, result) {
    const svg = byId(`outputs-${name}`), text = byId(`outputs-text-${name}`);
    svg.replaceChildren();
    byId(`reads-${name}`).textContent = result ? result.best : "–";
    text.textContent = "Nothing is drawn yet.";
    if (!result) return;
    const { outputs, best } = result, most = outputs[best], isUnits = data.units;
    const all = outputs.reduce((sum, value) => sum + Math.exp(value - most), 0);
    const shown = outputs.map((value) => isUnits ? value : 100 * Math.exp(value - most) / all);
    const [low, high] = isUnits ? [-1.72, 1.72] : [0, 100], place = (value) => 24 + 330 * (Math.min(Math.max(value, low), high) - low) / (high - low);
    const told = (value) => isUnits ? value.toFixed(2).replace("-", "−") : `${value.toFixed(1)} %`;
    if (isUnits) draw(svg, "path", { d: `M${place(0)} 2V242`, class: "guide" });
    shown.forEach((value, digit) => {
      const y = 6 + 24 * digit, [from, until] = [Math.min(place(0), place(value)), Math.max(place(0), place(value))];
      draw(svg, "text", { x: 2, y: y + 13 }, digit);
      draw(svg, "rect", { x: from, y, width: Math.max(until - from, 1), height: 16, class: digit === best ? "bar-d" : "bar-c" });
      draw(svg, "text", { x: 364, y: y + 13 }, told(value));
    });
    text.textContent = `${isUnits ? "Its ten units: the strongest is" : "Shares of its ten classes: the largest is that of"} ${best}, ${told(shown[best])}.`;
  }

  function showDistances({ outputs, codes, best }) {
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
    byId("distances-text").textContent = `The nearest is ${best}, at a squared distance of ${(-outputs[best]).toFixed(1)}.`;
  }

  function showMaps({ seen, codes, best }) {
    const row = (maps) => maps.map((map) => map[0]), sideOf = (maps) => Math.sqrt(maps[0].length);
    const layers = [
      ...["input", "C1", "S2", "C3", "S4"].map((name) => [`${name}: ${seen[name].length > 1 ? `${seen[name].length} maps, ` : ""}${sideOf(seen[name])} x ${sideOf(seen[name])}`, seen[name], sideOf(seen[name])]),
      ["C5: 120 units", [row(seen.C5)], 12], [`F6: 84 units, and the bitmap of ${best}`, [row(seen.F6), codes.slice(best * 84, best * 84 + 84)], 7],
    ];
    byId("maps").replaceChildren(...layers.map(([name, maps, width]) => mapFigure(name, maps.map((map) => mapCanvas(map, width, -1.7159, 1.7159)))));
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
    if (readers.length) look();
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
      readers = Object.entries(LIVE).map(([name, data]) => ({ name, data, read: makeReader(data) }));
      // Before the pen needs them the browser has compiled them.
      for (const { data, read } of readers) {
        for (let i = 0; i < 3; i++) read(new Array(data.side ** 2).fill(0));
      }
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
