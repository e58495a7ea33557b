"use strict";
// A network that sees a person's own images, in ONNX Runtime's build for browsers.

(() => {
  const byId = (id) => document.getElementById(id);
  const MAX_PIXELS = 40e6, MAX_BYTES = 200e6, NUM_CLASSES = 5, NUM_MAPS = 32;
  /** What a network's values may be, as mean and deviation of red, green and blue from 0 to 1. */
  const VALUES = {
    "normalized as for ImageNet": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    "from 0 to 1": [[0, 0, 0], [1, 1, 1]],
    "from -1 to 1": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
    "from 0 to 255": [[0, 0, 0], [1 / 255, 1 / 255, 1 / 255]],
  };
  let network = null, image = null;

  class Mistake extends Error {}

  function tell(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = !text;
  }

  /** Runs what may fail for a reason that a person can mend, and says the reason. */
  async function trying(what, work) {
    tell("");
    try {
      await work();
    } catch (error) {
      tell(error instanceof Mistake ? error.message : `${what} cannot be used: ${error.message || error}`);
    }
  }

  async function session(bytes) {
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  }

  /** A network from the bytes of its file, and of its preprocessing and manifest if it is an artefact. */
  async function opened(name, file, entrance, manifest) {
    const told = onnx.read(file), [input] = told.inputs, shape = input ? input.shape : [];
    const [, channels, height, width] = shape, found = told.inputs.map((one) => `${one.name} (${one.shape.join(" x ")})`).join(", ") || "nothing";
    const isImage = told.inputs.length === 1 && input.isFloat && shape.length === 4 && [1, 3].includes(channels) && height === width && typeof height === "number";
    if (!isImage) throw new Mistake(`${name} takes ${found}; a network for images takes one input of floats, as 1 x 3 x 224 x 224`);
    const one = { name, told, input, channels, side: height, session: await session(told.bytes()) };
    one.entrance = entrance && (await session(entrance));
    one.classes = manifest ? manifest.card.classes : null;
    one.isBgr = !!manifest && manifest.card.preprocessing.channel_order === "bgr";
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

  /** An image's pixels, red, green and blue, transparent parts on white. */
  async function pixelsOf(file) {
    const address = URL.createObjectURL(file);
    try {
      const element = new Image();
      // Not decoded yet: its size decides whether it will be.
      await new Promise((done, fail) => {
        element.onload = done;
        element.onerror = () => fail(new Mistake(`${file.name} is no image that this browser reads`));
        element.src = address;
      });
      const [width, height] = [element.naturalWidth, element.naturalHeight];
      if (!(width && height)) throw new Mistake(`${file.name} has no size of its own`);
      if (width * height > MAX_PIXELS) {
        throw new Mistake(`${file.name} has ${Math.round((width * height) / 1e6)} megapixels; at most ${MAX_PIXELS / 1e6} are read here, convatlas predict reads it`);
      }
      const canvas = document.createElement("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
      [canvas.width, canvas.height] = [width, height];
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      context.drawImage(element, 0, 0);
      return { name: file.name, canvas, width, height, bytes: context.getImageData(0, 0, width, height).data };
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  /** The network's input: by the artefact's own preprocessing, or the middle square, resized by the browser. */
  async function prepared({ entrance, channels, side }, { canvas, width, height, bytes }) {
    if (entrance) {
      const rgb = new Uint8Array(3 * width * height);
      for (let i = 0, to = 0; i < bytes.length; i += 4) {
        rgb[to++] = bytes[i];
        rgb[to++] = bytes[i + 1];
        rgb[to++] = bytes[i + 2];
      }
      const given = await entrance.run({ [entrance.inputNames[0]]: new ort.Tensor("uint8", rgb, [height, width, 3]) });
      return given[entrance.outputNames[0]];
    }
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

  async function look() {
    byId("who").textContent = `${network.name} sees`;
    byId("values-line").hidden = !!network.entrance;
    if (!image) return;
    const begun = performance.now(), input = await prepared(network, image);
    const given = await network.session.run({ [network.input.name]: input });
    const took = performance.now() - begun, { told, classes } = network;
    const vector = told.outputs.map((name) => given[name]).find((one) => one && one.type === "float32" && one.dims.length === 2 && one.dims[0] === 1);
    if (!vector) throw new Mistake(`${network.name} gives no scores of classes: a network that classifies gives 1 x classes floats`);
    const scores = Array.from(vector.data), probabilities = "probabilities" in given ? Array.from(given.probabilities.data) : softmax(scores);
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, NUM_CLASSES);
    const nameOf = (i) => (classes ? classes[i] : `class ${i}`);
    byId("best").textContent = nameOf(order[0]);
    byId("took").textContent = `in ${Math.round(took)} ms`;
    const result = { input, given, told };
    byId("classes").replaceChildren(...order.map((i, place) => {
      const button = document.createElement("button"), bar = document.createElement("span");
      button.type = "button";
      button.textContent = `${nameOf(i)}  ${(100 * probabilities[i]).toFixed(1)} %`;
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
  function activation({ given, told }, wanted) {
    if (!told.classMaps) return null;
    const { maps, weights } = told.classMaps, { data, dims } = given[maps], [, channels, height, width] = dims, area = height * width;
    if (dims.length !== 4) return null;
    if (!weights) return { height, width, values: data.slice(wanted * area, (wanted + 1) * area) };
    const isTransposed = weights.isTransposed || weights.shape[1] === channels && weights.shape[0] !== channels;
    const values = new Float32Array(area), step = isTransposed ? 1 : weights.shape[1], first = isTransposed ? wanted * channels : wanted;
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
  function inputImage({ data, dims }) {
    const [, channels, height, width] = dims, area = height * width, pixels = new ImageData(width, height), [low, span] = range(data);
    // In the order of OpenCV blue comes first, which a network does not tell; an artefact does.
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * (data[(channels === 1 ? 0 : network.isBgr ? 2 - c : c) * area + i] - low) / span;
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
    context.drawImage(inputImage(result.input), 0, 0, canvas.width, canvas.height);
    byId("seen-text").textContent = found
      ? `What the network is given; light where it speaks for "${name}".`
      : "What the network is given. It has no map for a class: it joins all places in fully connected layers, or its last weights cannot be read here.";
    if (!found) return;
    const { height, width, values } = found, [low, span] = range(values), shade = new ImageData(width, height);
    // Dark where nothing speaks for the class.
    values.forEach((value, i) => shade.data.set([10, 14, 20, 225 * (1 - (value - low) / span)], 4 * i));
    context.drawImage(onCanvas(shade), 0, 0, canvas.width, canvas.height);
  }

  function showMaps({ given, told }) {
    const shown = [["the first layer's maps", told.first], ["the last maps", told.classMaps && told.classMaps.maps]];
    byId("maps").replaceChildren(...shown.filter(([, name]) => name && given[name] && given[name].dims.length === 4).map(([title, name]) => {
      const { data, dims } = given[name], [, channels, height, width] = dims, area = height * width, number = Math.min(channels, NUM_MAPS);
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = `${title}: ${number} of ${channels}, ${width} x ${height}`;
      figure.append(...Array.from({ length: number }, (_, m) => {
        const map = data.subarray(m * area, (m + 1) * area), [low, span] = range(map), pixels = new ImageData(width, height);
        map.forEach((value, i) => {
          const level = 255 * (value - low) / span;
          pixels.data.set([level, level, level, 255], 4 * i);
        });
        const canvas = onCanvas(pixels);
        canvas.setAttribute("aria-hidden", "true");
        return canvas;
      }), caption);
      return figure;
    }));
  }

  async function take(files) {
    const given = Array.from(files), isNetwork = given.some(({ name }) => /\.(onnx|json)$/i.test(name));
    if (!given.length) return;
    await trying(given.map(({ name }) => name).join(", "), async () => {
      if (isNetwork) network = await networkOf(given);
      else image = await pixelsOf(given[0]);
      await look();
    });
  }

  for (const id of ["image", "network"]) byId(id).addEventListener("change", (event) => take(event.target.files));
  // Anywhere on the page: beside the frame a browser would leave the page for the file.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (network) take(event.dataTransfer.files);
  });
  byId("values").replaceChildren(...Object.keys(VALUES).map((name) => new Option(name, name)));
  byId("values").addEventListener("change", () => trying("The image", look));

  byId("asleep").hidden = false;
  byId("wake").addEventListener("click", () => {
    if (location.protocol === "file:") {
      tell("A page that was opened by a double click may not load a network: run convatlas museum open FOLDER, and open this page there.");
      return;
    }
    if (typeof WebAssembly === "undefined") {
      tell("This browser has no WebAssembly, or it is switched off; the network needs it.");
      return;
    }
    byId("wake").disabled = true;
    const script = document.createElement("script");
    script.src = "runtime/ort.wasm.min.js";
    script.addEventListener("load", () => trying("The network", async () => {
      ort.env.wasm.wasmPaths = new URL("runtime/", location.href).href;
      ort.env.wasm.numThreads = 1;
      network = await artefact(fetched);
      byId("asleep").hidden = true;
      byId("awake").hidden = false;
      byId("image").focus();
      await look();
    }).finally(() => { byId("wake").disabled = false; }));
    script.addEventListener("error", () => {
      byId("wake").disabled = false;
      tell("runtime/ort.wasm.min.js is missing: build the museum anew, or copy the whole folder.");
    });
    document.head.append(script);
  });
})();
