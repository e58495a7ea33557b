"use strict";
// Feature maps as gray images.

/** A canvas of a map's values, black at `low` and white at `high`. */
function mapCanvas(values, width, low, high) {
  const canvas = document.createElement("canvas"), height = values.length / width, pixels = new ImageData(width, height);
  [canvas.width, canvas.height] = [width, height];
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.setAttribute("aria-hidden", "true");
  values.forEach((value, i) => {
    const level = 255 * (value - low) / (high - low || 1);
    pixels.data.set([level, level, level, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A layer's maps with a caption. */
function mapFigure(text, canvases) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = text;
  figure.append(...canvases, caption);
  return figure;
}
