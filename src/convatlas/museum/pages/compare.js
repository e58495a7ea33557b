"use strict";
// Two networks of the table, their drawing and the ratio of their figures.
(() => {
  const byId = (id) => document.getElementById(id);
  const one = byId("one"), other = byId("other"), table = byId("table"), drawing = byId("pair-drawing");

  function show() {
    const title = (select) => select.selectedOptions[0].textContent;
    for (const cell of table.querySelectorAll("[data-network]")) {
      cell.hidden = cell.dataset.network !== one.value && cell.dataset.network !== other.value;
    }
    for (const row of table.querySelectorAll("tr")) {
      const ratio = row.querySelector(".ratio");
      ratio.hidden = false;
      const numbers = [one, other].map((select) => row.querySelector(`[data-network="${select.value}"]`)?.dataset.number);
      if (ratio.tagName === "TD") {
        const value = numbers[0] / numbers[1];
        ratio.textContent = numbers[0] === undefined || one.value === other.value ? ""
          : value >= 1 ? `${round(value)} times in ${title(one)}` : `${round(1 / value)} times in ${title(other)}`;
      }
    }
    // A network beside itself has no drawing.
    const path = one.value === other.value ? "" : [...document.querySelectorAll("[data-pair]")].find((pair) => {
      const names = pair.dataset.pair.split(" ");
      return names.includes(one.value) && names.includes(other.value);
    }).dataset.path;
    byId("pair-figure").hidden = byId("pair-take").hidden = !path;
    if (path) {
      drawing.src = path + ".svg";
      drawing.alt = `${title(one)} and ${title(other)} at one scale`;
      for (const link of byId("pair-take").querySelectorAll("a")) link.href = `${path}.${link.dataset.suffix}`;
    }
  }

  const round = (value) => Number(value.toPrecision(3)).toLocaleString("en-US");
  one.addEventListener("change", show);
  other.addEventListener("change", show);
  show();
})();
