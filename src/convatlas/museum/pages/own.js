"use strict";
// A network that sees a person's own images, in ONNX Runtime's build for browsers.

(() => {
  const byId = (id) => document.getElementById(id);
  const MAX_PIXELS = 40e6, MAX_BYTES = Number(document.currentScript.dataset.maxBytes), NUM_CLASSES = 5, NUM_MAPS = 32;
  /** What a network's values may be, as mean and deviation of red, green and blue from 0 to 1. */
  const VALUES = {
    "normalized as for ImageNet": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    "from 0 to 1": [[0, 0, 0], [1, 1, 1]],
    "from -1 to 1": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
    "from 0 to 255": [[0, 0, 0], [1 / 255, 1 / 255, 1 / 255]],
  };
  /** What is shown: only what has worked. */
  let network = null, image = null;
  /** One work after the other, in the order in which they were asked for. */
  let queue = Promise.resolve();

  class Mistake extends Error {}

  function complain(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = !text;
  }

  /** Does what may fail for a reason that a person can mend after all before it, and says the reason. */
  function trying(what, work) {
    queue = queue.then(async () => {
      complain("");
      byId("status").textContent = "Working …";
      // So that it is seen before the page is busy.
      await new Promise((done) => setTimeout(done, 20));
      try {
        await work();
      } catch (error) {
        complain(error instanceof Mistake ? error.message : `${what} cannot be used: ${error.message || error}`);
      } finally {
        byId("status").textContent = "";
      }
    });
    return queue;
  }

  async function session(bytes) {
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  }

  /** A network from the bytes of its file, and of its preprocessing and manifest if it is an artefact. */
  async function opened(name, file, entrance, manifest) {
    const told = onnx.read(file), [input] = told.inputs, shape = input ? input.shape : [];
    const [, channels, height, width] = shape, found = told.inputs.map((one) => `${one.name} (${one.shape.join(" x ")})`).join(", ") || "nothing";
    const isImage = told.inputs.length === 1 && input.isFloat && shape.length === 4 && [1, 3].includes(channels) && height === width && typeof height === "number";
    // A name, or nothing, stands for any number of images.
    const isAlone = shape[0] === 1 || typeof shape[0] !== "number";
    if (!isImage || !isAlone) throw new Mistake(`${name} takes ${found}; a network for images takes one input of floats, as 1 x 3 x 224 x 224`);
    const { first, classMaps, outputs } = told, one = { name, input, channels, side: height, first, classMaps, outputs };
    one.session = await session(told.bytes);
    try {
      one.entrance = entrance && (await session(entrance));
    } catch (error) {
      await one.session.release();
      throw error;
    }
    one.classes = manifest ? manifest.card.classes : null;
    const look = manifest ? manifest.card.preprocessing : {};
    one.isBgr = look.channel_order === "bgr";
    [one.ink, one.sideOfSet] = [look.ink, look.native_side];
    return one;
  }

  async function fetched(name) {
    const answer = await fetch(`own/${name}`);
    if (!answer.ok) throw new Error(`own/${name} is missing: build the museum anew, or copy the whole folder`);
    return new Uint8Array(await answer.arrayBuffer());
  }

  async function artefact(read) {
    const manifest = JSON.parse(new TextDecoder().decode(await read("artefact.json")));
    if (!manifest.card || !manifest.network) throw new Mistake("artefact.json is not that of an artefact; convatlas export --to onnx makes one");
    if (manifest.runtime !== "onnx") throw new Mistake(`This artefact is for ${manifest.runtime}; convatlas export --to onnx makes one that runs here`);
    return opened(manifest.card.variant, await read(manifest.network), await read(manifest.entrance), manifest);
  }

  async function networkOf(files) {
    for (const file of files) {
      if (file.size > MAX_BYTES) throw new Mistake(`${file.name} has ${size(file.size)}; at most ${size(MAX_BYTES)} are opened here`);
    }
    const named = new Map(files.map((file) => [file.name, file]));
    const read = async (name) => {
      if (!named.has(name)) throw new Mistake(`${name} of the artefact is missing; choose artefact.json and its two ONNX files together`);
      return new Uint8Array(await named.get(name).arrayBuffer());
    };
    if (named.has("artefact.json")) return artefact(read);
    if (files.length !== 1) throw new Mistake("Choose one ONNX file, or artefact.json and its two ONNX files together");
    return opened(files[0].name, await read(files[0].name), null, null);
  }

  async function released(one) {
    await one.session.release();
    if (one.entrance) await one.entrance.release();
  }

  /** An image's pixels, transparent parts on white. */
  async function pixelsOf(file) {
    const address = URL.createObjectURL(file), element = new Image();
    try {
      // Not decoded yet: its size decides whether it will be.
      await new Promise((done, fail) => {
        element.onload = done;
        element.onerror = () => fail(new Mistake(`${file.name} is no image that this browser reads`));
        element.src = address;
      });
    } finally {
      URL.revokeObjectURL(address);
    }
    const area = element.naturalWidth * element.naturalHeight;
    if (!area) throw new Mistake(`${file.name} has no size of its own`);
    if (area > MAX_PIXELS) {
      throw new Mistake(`${file.name} has ${Math.round(area / 1e6)} megapixels; at most ${MAX_PIXELS / 1e6} are read here, convatlas predict reads it`);
    }
    // As the package reads it: turned upright, and without its color profile.
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => { throw new Mistake(`${file.name} is no image that this browser reads`); });
    const canvas = whiteCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    return { name: file.name, canvas };
  }

  function whiteCanvas(width, height) {
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
    [canvas.width, canvas.height] = [width, height];
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    return canvas;
  }

  /** Red, green and blue of an image in turn; of a drawing for a network that reads ink, that in its frame. */
  function colors({ ink, sideOfSet }, { name, canvas }) {
    const { width, height } = canvas, gray = ink && grayImage(canvas), found = ink && inkOf(gray);
    if (ink && !found) throw new Mistake(`${name} is blank: there is no ink on it to read`);
    // What looks like an image of the set stays as it is.
    if (ink && !(found.isBright && width === sideOfSet && height === sideOfSet)) {
      const { values, width: side } = reframed(gray, ink);
      return { rgb: Uint8Array.from({ length: 3 * values.length }, (_, i) => values[Math.floor(i / 3)]), width: side, height: side };
    }
    const bytes = canvas.getContext("2d").getImageData(0, 0, width, height).data, rgb = new Uint8Array(3 * width * height);
    for (let i = 0, to = 0; i < bytes.length; i += 4) {
      rgb[to++] = bytes[i];
      rgb[to++] = bytes[i + 1];
      rgb[to++] = bytes[i + 2];
    }
    return { rgb, width, height };
  }

  /** A black stroke on white. */
  function strokeCanvas() {
    const canvas = whiteCanvas(64, 64), context = canvas.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(28, 16, 8, 32);
    return canvas;
  }

  /** The network's input: by the artefact's own preprocessing, or the middle square, resized by the browser. */
  async function prepared(one, image) {
    const { entrance, channels, side } = one;
    if (entrance) {
      const { rgb, width, height } = colors(one, image);
      const given = await entrance.run({ [entrance.inputNames[0]]: new ort.Tensor("uint8", rgb, [height, width, 3]) });
      return given[entrance.outputNames[0]];
    }
    const { canvas } = image, { width, height } = canvas;
    const small = document.createElement("canvas"), context = small.getContext("2d"), part = Math.min(width, height);
    small.width = small.height = side;
    context.imageSmoothingQuality = "high";
    context.drawImage(canvas, (width - part) / 2, (height - part) / 2, part, part, 0, 0, side, side);
    const from = context.getImageData(0, 0, side, side).data, [mean, deviation] = VALUES[byId("values").value];
    const values = new Float32Array(channels * side * side), area = side * side;
    for (let i = 0; i < area; i++) {
      const rgb = [0, 1, 2].map((c) => (from[4 * i + c] / 255 - mean[c]) / deviation[c]);
      if (channels === 1) values[i] = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
      else rgb.forEach((value, c) => { values[c * area + i] = value; });
    }
    return new ort.Tensor("float32", values, [1, channels, side, side]);
  }

  /** What a network gives for an image. Nothing on the page changes. */
  async function seen(one, given) {
    const begun = performance.now(), input = await prepared(one, given), outputs = await one.session.run({ [one.input.name]: input });
    const took = performance.now() - begun;
    const scores = one.outputs.map((name) => outputs[name]).find((each) => each && each.type === "float32" && each.dims.length === 2 && each.dims[0] === 1);
    if (!scores) throw new Mistake(`${one.name} gives no scores of classes: a network that classifies gives 1 x classes floats`);
    const probabilities = "probabilities" in outputs ? Array.from(outputs.probabilities.data) : softmax(Array.from(scores.data));
    return { network: one, input, outputs, probabilities, took };
  }

  /** Shows what was asked for if it works, and leaves all as it is if not. */
  async function look(asked) {
    const next = { network, image, ...asked }, old = network;
    let result;
    try {
      // Without an image of a person's: whether it runs at all.
      result = await seen(next.network, next.image || { canvas: strokeCanvas() });
    } catch (error) {
      if (next.network !== old) await released(next.network);
      throw error;
    }
    ({ network, image } = next);
    if (old && old !== network) await released(old);
    byId("who").textContent = `${network.name} sees`;
    byId("values-line").hidden = !!network.entrance;
    if (image) show(result);
  }

  function show(result) {
    const { probabilities, took } = result, { classes } = result.network;
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, NUM_CLASSES);
    const nameOf = (i) => (classes ? classes[i] : `class ${i}`);
    byId("best").textContent = nameOf(order[0]);
    byId("took").textContent = `in ${Math.round(took)} ms`;
    byId("classes").replaceChildren(...order.map((i, place) => {
      const button = document.createElement("button"), bar = document.createElement("span");
      button.type = "button";
      button.textContent = `${nameOf(i)}  ${probabilities[i] < 5e-4 ? "< 0.1" : (100 * probabilities[i]).toFixed(1)} %`;
      bar.className = "share";
      bar.style.width = `${100 * probabilities[i]}%`;
      button.append(bar);
      button.setAttribute("aria-pressed", String(place === 0));
      button.addEventListener("click", () => {
        for (const other of byId("classes").children) other.setAttribute("aria-pressed", String(other === button));
        showWhere(result, i, nameOf(i));
      });
      return button;
    }));
    byId("seeing").hidden = false;
    showWhere(result, order[0], nameOf(order[0]));
    showMaps(result);
  }

  function softmax(scores) {
    const most = Math.max(...scores), powers = scores.map((one) => Math.exp(one - most)), sum = powers.reduce((a, b) => a + b);
    // Some networks end in it.
    const isDone = scores.every((one) => one >= 0) && Math.abs(scores.reduce((a, b) => a + b) - 1) < 1e-3;
    return isDone ? scores : powers.map((one) => one / sum);
  }

  /** How much each place of the last maps speaks for a class; null where the network has no such maps. */
  function activation({ network: { classMaps }, outputs, probabilities }, wanted) {
    if (!classMaps || outputs[classMaps.maps].dims.length !== 4) return null;
    const { maps, weights } = classMaps, { data, dims } = outputs[maps], [, channels, height, width] = dims, area = height * width;
    if (!weights) return channels === probabilities.length ? { height, width, values: data.slice(wanted * area, (wanted + 1) * area) } : null;
    const [numClasses, numRead] = weights.isTransposed ? weights.shape : [...weights.shape].reverse();
    if (numClasses !== probabilities.length || numRead !== channels) return null;
    const values = new Float32Array(area), [first, step] = weights.isTransposed ? [wanted * channels, 1] : [wanted, numClasses];
    for (let k = 0; k < channels; k++) {
      const factor = weights.values[first + k * step];
      for (let i = 0; i < area; i++) values[i] += factor * data[k * area + i];
    }
    return { height, width, values };
  }

  const range = (values) => {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return [low, high > low ? high - low : 1];
  };

  /** What the network is given, as an image. */
  function inputImage({ input: { data, dims }, network: { isBgr } }) {
    const [, channels, height, width] = dims, area = height * width, pixels = new ImageData(width, height), [low, span] = range(data);
    // Some networks read blue first, which an artefact says.
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * (data[(channels === 1 ? 0 : isBgr ? 2 - c : c) * area + i] - low) / span;
      pixels.data[4 * i + 3] = 255;
    }
    return onCanvas(pixels);
  }

  function onCanvas(pixels) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [pixels.width, pixels.height];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  function showWhere(result, wanted, name) {
    const canvas = byId("seen"), context = canvas.getContext("2d"), found = activation(result, wanted);
    context.imageSmoothingEnabled = true;
    context.drawImage(inputImage(result), 0, 0, canvas.width, canvas.height);
    byId("seen-text").textContent = found
      ? `${image.name} as the network is given it; orange where it speaks for "${name}", dark where not.`
      : `${image.name} as the network is given it. It has no map for a class: it joins all places in fully connected layers, or its last weights cannot be read here.`;
    byId("choose").hidden = !found;
    if (!found) return;
    const { height, width, values } = found, [low, span] = range(values), shade = new ImageData(width, height);
    // Orange where most speaks for the class, dark where nothing does.
    values.forEach((value, i) => {
      const share = 2 * (value - low) / span - 1;
      shade.data.set(share > 0 ? [240, 130, 20, 150 * share] : [10, 14, 20, -170 * share], 4 * i);
    });
    context.drawImage(onCanvas(shade), 0, 0, canvas.width, canvas.height);
  }

  function showMaps({ network: { first, classMaps }, outputs }) {
    const shown = [["the first layer's maps", first], ["the last maps", classMaps && classMaps.maps]];
    byId("maps").replaceChildren(...shown.filter(([, name]) => name && outputs[name] && outputs[name].dims.length === 4).map(([title, name]) => {
      const { data, dims } = outputs[name], [, channels, height, width] = dims, area = height * width, number = Math.min(channels, NUM_MAPS);
      return mapFigure(`${title}: ${number} of ${channels}, ${width} x ${height}`, Array.from({ length: number }, (_, m) => {
        const map = data.subarray(m * area, (m + 1) * area), [low, span] = range(map);
        return mapCanvas(map, width, low, low + span);
      }));
    }));
  }

  function take(files) {
    const given = Array.from(files), isNetwork = given.some(({ name }) => /\.(onnx|json)$/i.test(name));
    if (!given.length) return;
    trying(given.map(({ name }) => name).join(", "), async () => {
      if (!network) throw new Mistake("Load the network first");
      await look(isNetwork ? { network: await networkOf(given) } : { image: await pixelsOf(given[0]) });
    });
  }

  for (const id of ["image", "network"]) {
    byId(id).addEventListener("change", ({ target }) => {
      take(target.files);
      // The same file may be chosen again.
      target.value = "";
    });
  }
  // Anywhere on the page: else a browser would leave the page for the file.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  byId("values").replaceChildren(...Object.keys(VALUES).map((name) => new Option(name, name)));
  byId("values").addEventListener("change", () => trying("The image", () => look({})));

  const loaded = (address) => new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = address;
    script.addEventListener("load", done);
    script.addEventListener("error", () => fail(new Mistake(`${address} is missing: build the museum anew, or copy the whole folder.`)));
    document.head.append(script);
  });

  byId("asleep").hidden = false;
  byId("wake").addEventListener("click", () => trying("The network", async () => {
    if (network) return;
    if (location.protocol === "file:") {
      throw new Mistake("A page that was opened by a double click may not load a network: run convatlas museum open FOLDER, and open this page there.");
    }
    if (typeof WebAssembly === "undefined") throw new Mistake("This browser has no WebAssembly, or it is switched off; the network needs it.");
    await loaded("runtime/ort.wasm.min.js");
    ort.env.wasm.wasmPaths = new URL("runtime/", location.href).href;
    ort.env.wasm.numThreads = 1;
    await look({ network: await artefact(fetched) });
    byId("asleep").hidden = true;
    byId("awake").hidden = false;
    byId("image").focus();
  }));
})();
