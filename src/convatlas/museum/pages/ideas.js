"use strict";
// Drawings of ideas. Data: IDEAS, figures that Python counted and measured; here they are only drawn.
(() => {
  const byId = (id) => document.getElementById(id);
  const chosen = (name) => Number(document.querySelector(`input[name="${name}"]:checked`).value);
  const onChoice = (names, moved) => {
    for (const name of names) {
      for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.addEventListener("change", moved);
    }
  };
  const fresh = (id) => {
    const svg = byId(id + "-drawing");
    svg.replaceChildren();
    return svg;
  };
  const say = (id, text) => { byId(id + "-says").textContent = text; };

  /** Bars of one scale below each other, each of parts: [label, [[value, class], ...]]. */
  function bars(svg, x, y, width, rows) {
    const most = Math.max(...rows.map(([, parts]) => parts.reduce((sum, [value]) => sum + value, 0)));
    rows.forEach(([label, parts], i) => {
      const top = y + 52 * i, total = parts.reduce((sum, [value]) => sum + value, 0);
      draw(svg, "text", { x, y: top - 5 }, `${label}: ${count(total)}`);
      let left = x;
      for (const [value, kind] of parts) {
        draw(svg, "rect", { x: left, y: top, width: Math.max(width * value / most, 0.5), height: 20, class: kind });
        left += width * value / most;
      }
    });
  }

  // The gradient chain.
  const chains = IDEAS.gradients;
  function showChain() {
    const names = ["activation", "init"], sizes = [chains.depth.length, chains.activation.length, chains.init.length, 2, 2];
    const indices = [depth.index, ...names.map((name) => chosen("chain-" + name)), chosen("chain-norm"), chosen("chain-shortcuts")];
    const norms = chains.norms[indices.reduce((place, index, i) => place * sizes[i] + index, 0)];
    const svg = fresh("gradients"), known = norms.filter((value) => value !== null);
    const low = Math.min(-2, Math.floor(Math.min(...known))), high = Math.max(2, Math.ceil(Math.max(...known)));
    const x = (i) => 70 + 540 * i / (norms.length - 1), y = (value) => 320 - 285 * (value - low) / (high - low);
    const step = Math.max(1, Math.ceil((high - low) / 8));
    for (let power = Math.ceil(low / step) * step; power <= high; power += step) {
      draw(svg, "path", { d: `M70 ${y(power)}H610`, class: "guide" });
      const tick = draw(svg, "text", { x: 62, y: y(power) + 4, class: "tick end" }, "10");
      draw(tick, "tspan", { dy: -5, "font-size": 10 }, power);
    }
    for (const i of [0, norms.length - 1]) draw(svg, "text", { x: x(i), y: 342, class: "tick middle" }, i + 1);
    draw(svg, "text", { x: 340, y: 364, class: "tick middle" }, "layer");
    draw(svg, "text", { x: 70, y: 22, class: "tick" }, "norm of the gradient");
    draw(svg, "path", { d: "M" + norms.map((value, i) => [i, value]).filter(([, value]) => value !== null).map(([i, value]) => `${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("L"), class: "curve" });
    const first = norms[0], last = norms[norms.length - 1];
    const powers = first - last;
    say("gradients", first === null ? `The gradient is 0 at the first of ${norms.length} layers.`
      : `Through ${norms.length} layers the gradient's norm ${Math.abs(powers) < 1 ? "stays within a factor of 10" : powers < 0
        ? `shrinks by ${(-powers).toFixed(1)} powers of ten` : `grows by ${powers.toFixed(1)} powers of ten`} from the last to the first.`);
  }
  const depth = slider("chain-depth", chains.depth, () => showChain());
  onChoice(["chain-activation", "chain-init", "chain-norm", "chain-shortcuts"], showChain);
  showChain();

  // One 7x7 against three 3x3.
  function showFilters() {
    const { channels, one, three, sees } = IDEAS.filters, svg = fresh("filters"), layers = number.index + 1, c = wide.index;
    const cell = 26, left = 30, top = 40;
    for (let row = 0; row < 9; row++) {
      for (let column = 0; column < 9; column++) {
        draw(svg, "rect", { x: left + cell * column, y: top + cell * row, width: cell, height: cell, class: "cell" });
      }
    }
    sees.slice(0, layers).reverse().forEach((side, i) => {
      const start = (9 - side) / 2 * cell;
      draw(svg, "rect", { x: left + start, y: top + start, width: side * cell, height: side * cell, class: "bar-a", opacity: 0.3 + 0.2 * i });
    });
    draw(svg, "rect", { x: left + cell, y: top + cell, width: 7 * cell, height: 7 * cell, class: "ghost", "stroke-width": 2 });
    draw(svg, "text", { x: left, y: 300, class: "tick" }, "what one output sees; dashed: by 7x7");
    const stacked = Array.from({ length: layers }, (_, i) => [three[c][i] - (i ? three[c][i - 1] : 0), ["bar-a", "bar-c", "bar-a"][i]]);
    draw(svg, "text", { x: 310, y: 50, class: "tick" }, "weights");
    bars(svg, 310, 90, 300, [["one 7x7", [[one[c], "bar-d"]]], [`${layers} of 3x3`, stacked]]);
    say("filters", `With ${channels[c]} channels, ${layers} of 3x3 ${layers > 1 ? "see" : "sees"} ${sees[layers - 1]} x ${sees[layers - 1]} pixels with ${count(three[c][layers - 1])} weights, one of 7x7 has ${count(one[c])}: ${(three[c][layers - 1] / one[c] * 100).toFixed(0)} % of them.`);
  }
  const number = slider("filters-layers", [1, 2, 3], () => showFilters());
  const wide = slider("filters-channels", IDEAS.filters.channels, () => showFilters());
  showFilters();

  // The Inception module.
  const branchNames = ["1x1", "3x3", "5x5", "pooling"], branchColors = ["bar-c", "bar-a", "bar-b", "bar-d"];
  function showInception() {
    const { modules } = IDEAS.inception, one = modules[module.index], reduced = chosen("inception-reduced") === 1;
    const svg = fresh("inception"), scale = 120 / 832;
    draw(svg, "rect", { x: 20, y: 30, width: 40, height: 170, class: "bar-e" });
    draw(svg, "text", { x: 40, y: 220, class: "middle" }, one.in);
    let passed = 0, macs = 0, y = 30;
    one.branches.forEach(([few, out, cost, naive, all], i) => {
      const lane = 30 + 45 * i, gives = reduced || i < 3 ? out : all;
      draw(svg, "path", { d: `M60 ${lane + 15}H500`, class: "guide" });
      if (reduced && few && i < 3) {
        draw(svg, "rect", { x: 110, y: lane, width: Math.max(few * scale * 2, 3), height: 30, class: "bar-c" });
        draw(svg, "text", { x: 116 + few * scale * 2, y: lane + 20 }, `1x1: ${few}`);
      }
      draw(svg, "rect", { x: 270, y: lane, width: Math.max(gives * scale * 2, 3), height: 30, class: branchColors[i] });
      draw(svg, "text", { x: Math.max(276 + gives * scale * 2, 276), y: lane + 20 }, `${branchNames[i]}: ${gives}`);
      const height = 170 * gives / (reduced ? 1024 : 1856);
      draw(svg, "rect", { x: 560, y, width: 40, height, class: branchColors[i] });
      y += height;
      passed += gives;
      macs += reduced ? cost : naive;
    });
    draw(svg, "text", { x: 580, y: 220, class: "middle" }, passed);
    const sums = [2, 3].map((place) => one.branches.reduce((sum, branch) => sum + branch[place], 0));
    bars(svg, 20, 255, 580, [["MACs, " + (reduced ? "with reductions" : "without reductions"), one.branches.map((branch, i) => [branch[reduced ? 2 : 3], branchColors[i]])]]);
    say("inception", `Module ${one.name} makes ${passed} channels of ${one.in} with ${count(macs)} MACs; without reductions it would take ${(sums[1] / sums[0]).toFixed(1)} times as many as with them.`);
  }
  const module = slider("inception-module", IDEAS.inception.names, () => showInception());
  onChoice(["inception-reduced"], showInception);
  showInception();

  // The Fire module.
  function showFire() {
    const { squeezed, costs, plain } = IDEAS.fire, svg = fresh("fire"), few = squeezed[squeeze.index];
    const block = (x, channels, kind, label, y = 110) => {
      draw(svg, "rect", { x, y: y - channels * 0.32, width: 46, height: Math.max(channels * 0.64, 3), class: kind });
      draw(svg, "text", { x: x + 23, y: 215, class: "middle" }, label);
    };
    for (const x of [76, 256]) draw(svg, "path", { d: `M${x} 110h134`, class: "guide" });
    draw(svg, "path", { d: "M436 110h134", class: "guide" });
    block(30, 256, "bar-e", "256");
    block(210, few, "bar-c", `squeeze 1x1: ${few}`);
    draw(svg, "rect", { x: 390, y: 28, width: 46, height: 80, class: "bar-c" });
    draw(svg, "rect", { x: 390, y: 112, width: 46, height: 80, class: "bar-a" });
    draw(svg, "text", { x: 413, y: 215, class: "middle" }, "1x1: 128, 3x3: 128");
    block(570, 256, "bar-e", "256");
    const kinds = ["bar-e", "bar-c", "bar-a"];
    bars(svg, 30, 252, 560, [["weights, Fire module", costs[squeeze.index].map((value, i) => [value, kinds[i]])], ["weights, 3x3 without squeeze", [[plain, "bar-d"]]]]);
    const sum = costs[squeeze.index].reduce((all, value) => all + value, 0);
    say("fire", `Squeezed to ${few} channels, the module has ${count(sum)} weights; a plain 3x3 convolution of 256 channels has ${count(plain)}: ${(plain / sum).toFixed(1)} times as many.`);
  }
  const squeeze = slider("fire-squeeze", IDEAS.fire.squeezed, () => showFire());
  showFire();

  // Depthwise separable.
  function showSeparable() {
    const data = IDEAS.separable, [few, many, kernel] = [data.in[inputs.index], data.out[outputs.index], data.kernel[kernelAt.index]];
    const [full, depthwise, pointwise] = data.costs[(inputs.index * data.out.length + outputs.index) * data.kernel.length + kernelAt.index];
    const step = chosen("separable-step"), svg = fresh("separable");
    // A stack of maps, of which at most eight are drawn.
    const stack = (x, channels, kind, label) => {
      const shown = Math.max(2, Math.round(Math.log2(channels)));
      for (let i = shown - 1; i >= 0; i--) {
        draw(svg, "rect", { x: x + 7 * i, y: 70 - 5 * i, width: 80, height: 80, class: kind, stroke: "var(--page)" });
      }
      draw(svg, "text", { x: x + 40, y: 175, class: "middle" }, label);
    };
    const filter = (x, y, deep) => {
      const cell = 34 / 3, side = (step === 2 ? 1 : kernel) * cell * (kernel > 3 ? 0.6 : 1);
      for (let i = deep - 1; i >= 0; i--) draw(svg, "rect", { x: x + 4 * i, y: y - 3 * i, width: side, height: side, class: step === 1 ? "bar-b" : step === 2 ? "bar-c" : "bar-a", stroke: "var(--page)" });
    };
    stack(35, few, "bar-e", `${few} channels`);
    const deep = step === 1 ? 1 : 5;
    for (let i = 0; i < 3; i++) filter(255 + 70 * i, 110, deep);
    const depth = step === 1 ? 1 : few, side = step === 2 ? 1 : kernel, num = step === 1 ? few : many;
    draw(svg, "text", { x: 330, y: 175, class: "middle" }, `${num} filters`);
    draw(svg, "text", { x: 330, y: 197, class: "middle" }, `of ${side} x ${side} x ${depth}`);
    stack(470, step === 1 ? few : many, step === 1 ? "bar-b" : "bar-c", `${step === 1 ? few : many} channels`);
    bars(svg, 20, 235, 560, [["multiplications for one position, full", [[full, "bar-a"]]], ["depthwise and pointwise", [[depthwise, "bar-b"], [pointwise, "bar-c"]]]]);
    draw(svg, "text", { x: 20, y: 345, class: "tick" }, `1/${many} + 1/${kernel * kernel} = ${(1 / many + 1 / (kernel * kernel)).toFixed(4)}`);
    say("separable", `From ${few} to ${many} channels with ${kernel} x ${kernel}: ${count(depthwise)} + ${count(pointwise)} multiplications at one position instead of ${count(full)}, ${(full / (depthwise + pointwise)).toFixed(1)} times fewer.`);
  }
  const inputs = slider("separable-in", IDEAS.separable.in, () => showSeparable());
  const outputs = slider("separable-out", IDEAS.separable.out, () => showSeparable());
  const kernelAt = slider("separable-kernel", IDEAS.separable.kernel, () => showSeparable());
  onChoice(["separable-step"], showSeparable);
  showSeparable();

  // Compound scaling.
  function showSurface() {
    const { width, depth: deep, resolution, macs, budgets } = IDEAS.surface, svg = fresh("compound"), most = budgets[budget.index] * 1e9;
    const [cellWidth, cellHeight] = [106, 58];
    let affordable = 0;
    deep.forEach((d, row) => {
      draw(svg, "text", { x: 62, y: 318 - cellHeight * row - 24, class: "tick end" }, d);
      width.forEach((w, column) => {
        const fits = resolution.filter((_, r) => macs[(column * deep.length + row) * resolution.length + r] <= most);
        const side = fits.length ? fits[fits.length - 1] : 0, x = 74 + cellWidth * column, y = 318 - cellHeight * (row + 1);
        draw(svg, "rect", { x, y, width: cellWidth - 4, height: cellHeight - 4, class: side ? "cell" : "dead", rx: 4 });
        if (!side) return;
        affordable++;
        const square = side / resolution[resolution.length - 1] * (cellHeight - 8);
        draw(svg, "rect", { x: x + (cellWidth - 4 - square) / 2, y: y + (cellHeight - 4 - square) / 2, width: square, height: square, class: "bar-c", opacity: 0.55 });
        draw(svg, "text", { x: x + cellWidth / 2 - 2, y: y + cellHeight / 2 + 3, class: "middle" }, side);
      });
    });
    width.forEach((w, column) => draw(svg, "text", { x: 74 + cellWidth * column + 51, y: 336, class: "tick middle" }, w));
    draw(svg, "text", { x: 340, y: 362, class: "tick middle" }, "width; in each cell the largest resolution, px");
    draw(svg, "text", { x: 14, y: 20, class: "tick" }, "depth");
    say("compound", `With ${budgets[budget.index]} billion MACs, ${affordable} of ${width.length * deep.length} widths and depths can be paid at one of the resolutions from ${resolution[0]} to ${resolution[resolution.length - 1]} px.`);
  }
  const budget = slider("compound-budget", IDEAS.surface.budgets, () => showSurface());
  showSurface();
})();
