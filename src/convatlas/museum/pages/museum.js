"use strict";
// What all pages share. Without it they read as well; with it they can be played with.

/** 138357544 -> "138,357,544" */
function count(number) { return number.toLocaleString("en-US"); }

/** 138357544 -> "138 M": three digits and a power of 1000, as the package writes them. */
function roundCount(number) {
  if (number < 1000) return String(number);
  const [digits, exponent] = number.toExponential(2).split("e");
  const power = Math.floor(Number(exponent) / 3), shift = Number(exponent) - 3 * power;
  return (Number(digits) * 10 ** shift).toFixed(2 - shift) + " " + "KMGT"[power - 1];
}

/** Bytes -> "24.5 MiB", as the package writes them. */
function size(bytes) {
  const [unit, power] = bytes >= 2 ** 30 ? ["GiB", 30] : bytes >= 2 ** 20 ? ["MiB", 20] : ["KiB", 10];
  return (bytes / 2 ** power).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }) + " " + unit;
}

/** An SVG element with attributes, in its parent. */
function draw(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** Fill a <dl> with pairs of name and value. */
function tell(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value, more]) => {
    const pair = document.createElement("div"), term = document.createElement("dt"), told = document.createElement("dd");
    term.textContent = name;
    told.textContent = value;
    if (more) {
      const small = document.createElement("small");
      small.textContent = " " + more;
      told.append(small);
    }
    pair.append(term, told);
    return pair;
  }));
}

/** A slider that stops at a list's values only; calls back with the index. What it says, screen readers say too. */
function slider(id, values, moved) {
  const input = document.getElementById(id), shown = document.getElementById(id + "-value");
  const show = () => {
    const value = String(values[input.value]);
    shown.textContent = value;
    input.setAttribute("aria-valuetext", value);
    moved();
  };
  input.addEventListener("input", show);
  return { get index() { return Number(input.value); }, set index(number) { input.value = number; show(); } };
}

/** A drawing as a file: what the style sheet says of it is written into it, and its page's color lies under it. */
function svgFile(svg) {
  const copy = svg.cloneNode(true), named = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font", "text-anchor"];
  const pairs = [[svg, copy], ...[...svg.querySelectorAll("*")].map((one, i) => [one, copy.querySelectorAll("*")[i]])];
  for (const [shown, written] of pairs) {
    const style = getComputedStyle(shown);
    written.setAttribute("style", named.map((name) => `${name}: ${style.getPropertyValue(name)}`).join("; "));
    written.removeAttribute("class");
  }
  const { width, height } = svg.viewBox.baseVal, ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width, height, fill: getComputedStyle(svg).backgroundColor })) ground.setAttribute(name, value);
  copy.prepend(ground);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return new XMLSerializer().serializeToString(copy);
}

// Drawings that are drawn here can be downloaded too.
for (const svg of document.querySelectorAll(".idea > svg, #stop-drawing, #distances, svg.timeline")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "take-svg";
  button.textContent = "Download as SVG";
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([svgFile(svg)], { type: "image/svg+xml" }));
    link.download = `${svg.id || "timeline"}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  if (svg.closest(".idea")) svg.previousElementSibling.append(button);
  else svg.after(button);
}

// What needs scripts is hidden without them.
for (const element of document.querySelectorAll(".zoom, .panel, .scaling, .pair, .idea [hidden]")) element.removeAttribute("hidden");
