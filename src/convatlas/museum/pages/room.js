"use strict";
// A network's room: zoom, the figures of a layer that is clicked, and the sliders. Data: ROOM and STOPS.
(() => {
  const byId = (id) => document.getElementById(id);

  // Zoom: the drawing's width in its frame.
  const zooms = [1, 1.5, 2, 3, 4];
  let zoom = 0;
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const step = { in: 1, out: -1, fit: -zoom }[button.dataset.zoom];
      zoom = Math.min(Math.max(zoom + step, 0), zooms.length - 1);
      for (const svg of document.querySelectorAll(".diagram svg")) svg.style.width = zooms[zoom] * 100 + "%";
    });
  }

  // Layers. Those of the level that is shown can be chosen, in the order of the drawing.
  const select = byId("layer"), diagrams = [...document.querySelectorAll(".diagram")];
  const shownDiagram = () => diagrams.find((one) => byId("level-" + one.dataset.level).checked);
  const namesIn = (diagram) => {
    const found = new Set([...diagram.querySelectorAll("[data-layer]")].map((one) => one.dataset.layer));
    return Object.keys(ROOM.parts).filter((name) => found.has(name));
  };

  function fill() {
    const before = select.value, names = namesIn(shownDiagram());
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    choose(names.includes(before) ? before : names[0]);
  }

  function choose(name) {
    select.value = name;
    for (const one of document.querySelectorAll(".chosen")) one.classList.remove("chosen");
    for (const one of shownDiagram().querySelectorAll("[data-layer]")) {
      if (one.dataset.layer === name) one.classList.add("chosen");
    }
    const [kind, shape, params, macs, bytes, field, stride, layers] = ROOM.parts[name];
    tell(byId("layer-facts"), [
      ["kind", kind, layers > 1 ? `of ${layers} layers` : ""],
      ["output", shape.join(" x ")],
      ["parameters", count(params)],
      ["MACs", count(macs)],
      [layers > 1 ? "outputs of all" : "output, 32 bits", size(bytes)],
      ["receptive field", field + " px"],
      ["stride", stride + " px"],
    ]);
    drawField(name, shape, field, stride);
  }

  // The input image with what one output sees of it, and what its neighbor sees.
  function drawField(name, shape, field, stride) {
    const side = ROOM.input[1], svg = byId("field"), scale = 200 / side, seen = Math.min(field, side);
    svg.replaceChildren();
    drawImage(svg);
    for (let i = 1; i < 8; i++) draw(svg, "path", { d: `M${10 + 25 * i} 10v200M10 ${10 + 25 * i}h200`, class: "grid" });
    draw(svg, "rect", { x: 10, y: 10, width: 200, height: 200, class: "image" });
    const start = 10 + (200 - seen * scale) / 2, length = Math.max(seen * scale, 1);
    draw(svg, "rect", { x: start, y: start, width: length, height: length, class: "sees" });
    const alone = shape.length < 3 || shape[1] === 1;
    if (!alone) draw(svg, "rect", { x: Math.min(start + stride * scale, 210 - length), y: start, width: length, height: length, class: "next" });
    byId("field-text").textContent = alone || seen === side
      ? `An output of ${name} sees ${seen === side ? "the whole image" : `${seen} x ${seen} px`} of ${side} x ${side} px.`
      : `An output of ${name} sees ${seen} x ${seen} of ${side} x ${side} px; its neighbor (dashed) lies ${stride} px on.`;
  }

  // Something to look at: a digit for a network that reads gray images, a landscape for the others.
  function drawImage(svg) {
    if (ROOM.input[0] === 1) {
      draw(svg, "path", { d: "M150 50H85L78 108C110 88 160 100 155 140C150 185 95 185 70 160", class: "ink", "stroke-width": 14 });
      return;
    }
    draw(svg, "circle", { cx: 155, cy: 60, r: 22, class: "near" });
    draw(svg, "path", { d: "M10 140L70 70L115 125L150 95L210 150V210H10z", class: "far" });
    draw(svg, "path", { d: "M10 165Q110 130 210 175V210H10z", class: "near" });
    draw(svg, "path", { d: "M60 185V140", class: "ink", "stroke-width": 5 });
    draw(svg, "circle", { cx: 60, cy: 120, r: 24, class: "far ink", "stroke-width": 3 });
  }

  select.addEventListener("change", () => choose(select.value));
  for (const [id, step] of [["before", -1], ["after", 1]]) {
    byId(id).addEventListener("click", () => {
      const number = select.selectedIndex + step;
      if (number >= 0 && number < select.length) choose(select.options[number].value);
    });
  }
  for (const diagram of diagrams) {
    byId("level-" + diagram.dataset.level).addEventListener("change", fill);
    diagram.addEventListener("click", (event) => {
      // A sum or a concatenation computes nothing of its own: then it is the module around it.
      for (let one = event.target.closest("[data-layer]"); one; one = one.parentElement.closest("[data-layer]")) {
        for (let name = one.dataset.layer; name; name = name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : "") {
          if ([...select.options].some((option) => option.value === name)) return choose(name);
        }
      }
    });
  }
  fill();

  // Sliders.
  const lengths = (text) => text.split(" ").flatMap((run) => {
    const [value, times] = run.split("*").map(Number);
    return Array(times || 1).fill(value);
  });
  const layersAt = (one) => {
    const [channels, sides, connected] = ["channels", "sides", "connected"].map((name, i) => lengths(STOPS[name][one[4 + i]]));
    return channels.map((value, i) => ({ width: Math.log2(value + 1), height: Math.sqrt(sides[i]), connected: connected[i] }));
  };
  const sums = STOPS.channels.map((text) => lengths(text).reduce((sum, value) => sum + Math.log2(value + 1), 0));
  const wide = 980 / Math.max(...sums);
  const tall = 130 / Math.max(...STOPS.sides.map((text) => Math.sqrt(Math.max(...lengths(text)))));
  const at = (w, d, r) => STOPS.figures[(w * STOPS.depth.length + d) * STOPS.resolution.length + r];
  const own = at(...STOPS.own);

  function showStop() {
    const one = at(width.index, depth.index, resolution.index), svg = byId("stop-drawing");
    svg.replaceChildren();
    if (typeof one === "string") {
      tell(byId("stop-facts"), [["no such network", one]]);
      return;
    }
    const [params, macs, peak, layers] = one;
    const times = (i) => (one[i] === own[i] ? "" : (one[i] / own[i]).toPrecision(3).replace(/\.?0+$/, "") + " times");
    tell(byId("stop-facts"), [
      ["parameters", count(params), times(0)],
      ["MACs", count(macs), times(1)],
      ["activations at once", size(peak), times(2)],
      ["weights, 32 bits", size(4 * params)],
      ["depth", layers],
    ]);
    let x = 10;
    for (const layer of layersAt(one)) {
      const height = layer.height * tall;
      draw(svg, "rect", {
        x: x.toFixed(1), y: ((150 - height) / 2).toFixed(1), width: (layer.width * wide).toFixed(1), height: height.toFixed(1),
        class: layer.connected ? "fc" : "cv",
      });
      x += layer.width * wide;
    }
    svg.setAttribute("aria-label", `${ROOM.name} with ${layers} layers in depth: ${roundCount(params)} parameters, ${roundCount(macs)} MACs`);
  }

  const px = STOPS.resolution.map((side) => side + " px");
  const width = slider("width", STOPS.width, showStop), depth = slider("depth", STOPS.depth, showStop);
  const resolution = slider("resolution", px, showStop);
  function toOwn() {
    [width.index, depth.index, resolution.index] = STOPS.own;
  }
  byId("own").addEventListener("click", toOwn);
  toOwn();
})();
