"use strict";
// What a page must know of an ONNX file before it runs: its input, its last maps, and what makes classes of them.
// The numbers of fields are those of the file onnx.proto of the format.

const onnx = (() => {
  const FLOAT = 1, INT64 = 7, utf8 = new TextDecoder();

  /** The number that begins there, and where the next thing begins. */
  function varintAt(bytes, at) {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 63) throw new Error("it is cut short or no ONNX file");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return [value, at];
    }
  }

  /** The fields of a protobuf message: number, kind, and value (a number, or the bytes). */
  function* fields(bytes) {
    let at = 0;
    const varint = () => {
      let value;
      [value, at] = varintAt(bytes, at);
      return value;
    };
    while (at < bytes.length) {
      const begin = at, key = varint(), number = Math.floor(key / 8), kind = key % 8;
      let value;
      if (kind === 0) {
        value = varint();
      } else {
        const length = kind === 2 ? varint() : { 1: 8, 5: 4 }[kind];
        if (!number || length === undefined || at + length > bytes.length) throw new Error("it is cut short or no ONNX file");
        value = bytes.subarray(at, at + length);
        at += length;
      }
      yield { number, value, whole: bytes.subarray(begin, at) };
    }
  }

  const all = (bytes, wanted) => Array.from(fields(bytes)).filter(({ number }) => number === wanted).map(({ value }) => value);
  const text = (bytes) => (bytes ? utf8.decode(bytes) : "");

  function readNode(bytes) {
    const attributes = Object.fromEntries(all(bytes, 5).map((one) => [text(all(one, 1)[0]), numbers([...all(one, 3), ...all(one, 8)])]));
    return { reads: all(bytes, 1).map(text), gives: all(bytes, 2).map(text), does: text(all(bytes, 4)[0]), attributes };
  }

  /** A whole number, or several that are packed. */
  const numbers = (values) => values.flatMap((value) => (typeof value === "number" ? [value] : Array.from(unpacked(value))));
  function* unpacked(bytes) {
    for (let at = 0, value; at < bytes.length; ) {
      [value, at] = varintAt(bytes, at);
      yield value;
    }
  }

  function readTensor(bytes) {
    const isInside = !all(bytes, 13).length, raw = all(bytes, 9)[0], kind = all(bytes, 2)[0];
    const values = () => {
      if (!isInside || !raw) return kind === INT64 ? numbers(all(bytes, 7)) : null;
      return kind === FLOAT ? new Float32Array(raw.slice().buffer) : kind === INT64 ? Array.from(new BigInt64Array(raw.slice().buffer), Number) : null;
    };
    return { name: text(all(bytes, 8)[0]), shape: numbers(all(bytes, 1)), isInside, values };
  }

  /** An input's shape: numbers, and names where any number will do. */
  function readInput(bytes) {
    const [tensor] = all(all(bytes, 2)[0] || new Uint8Array(), 1);
    const dims = tensor ? all(all(tensor, 2)[0] || new Uint8Array(), 1) : [];
    return { name: text(all(bytes, 1)[0]), isFloat: !!tensor && all(tensor, 1)[0] === FLOAT, shape: dims.map((dim) => all(dim, 1)[0] || text(all(dim, 2)[0])) };
  }

  const PASSING = new Set(["Flatten", "Reshape", "Squeeze", "Dropout", "Identity", "Cast"]);

  /** Whether a node averages each map over all its places. */
  function averages({ does, reads, attributes }, tensors) {
    if (does === "GlobalAveragePool") return true;
    const axes = does === "ReduceMean" && (attributes.axes || (tensors.has(reads[1]) && tensors.get(reads[1]).values()));
    // -1 and -2 as they are, or as numbers of 64 bits without a sign.
    return !!axes && axes.length === 2 && axes.every((axis) => axis === 2 || axis === 3 || axis < 0 || axis > 2 ** 63);
  }

  /**
   * What of a network becomes its output: the last maps before they are averaged, and the weights of the one layer after
   * it. Without weights the maps are the classes' own; null where another way leads from maps to classes.
   */
  function classMaps(nodes, tensors, outputs) {
    for (const pool of nodes.filter((node) => averages(node, tensors)).reverse()) {
      let name = pool.gives[0], weights = null;
      while (!outputs.includes(name)) {
        const [next, ...others] = nodes.filter(({ reads }) => reads.includes(name));
        if (!next || others.length || next.reads[0] !== name) break;
        if ((next.does === "Gemm" || next.does === "MatMul") && !weights) {
          const tensor = tensors.get(next.reads[1]), values = tensor && tensor.values();
          if (!values || tensor.shape.length !== 2) break;
          weights = { values, shape: tensor.shape, isTransposed: next.does === "Gemm" && (next.attributes.transB || [])[0] === 1 };
        } else if (!(PASSING.has(next.does) || next.does === "Softmax" || (next.does === "Add" && weights && tensors.has(next.reads[1])))) {
          break;
        }
        name = next.gives[0];
      }
      if (outputs.includes(name)) return { maps: pool.reads[0], weights };
    }
    return null;
  }

  /** What a file's network takes, and the file again so that it gives the maps of its first layer and its last too. */
  function read(bytes) {
    const parts = Array.from(fields(bytes)), graph = parts.find(({ number, value }) => number === 7 && typeof value !== "number");
    if (!graph) throw new Error("it has no graph, so it is no ONNX file");
    const nodes = all(graph.value, 1).map(readNode), tensors = new Map(all(graph.value, 5).map(readTensor).map((one) => [one.name, one]));
    if ([...tensors.values()].some(({ isInside }) => !isInside)) throw new Error("it keeps its weights in another file");
    const inputs = all(graph.value, 11).map(readInput).filter(({ name }) => !tensors.has(name));
    const outputs = all(graph.value, 12).map((one) => text(all(one, 1)[0]));
    const first = nodes.find(({ does }) => does === "Conv"), found = classMaps(nodes, tensors, outputs);
    const seen = new Set([first && first.gives[0], found && found.maps].filter((name) => name && !outputs.includes(name)));
    return { inputs, outputs, first: first && first.gives[0], classMaps: found, bytes: joined(parts, graph, [...seen]) };
  }

  function joined(parts, graph, names) {
    const added = names.flatMap((name) => {
      const own = new TextEncoder().encode(name), value = [0x0a, ...varint(own.length), ...own];
      return [0x62, ...varint(value.length), ...value];
    });
    const head = [0x3a, ...varint(graph.value.length + added.length)];
    const pieces = parts.flatMap((part) => (part === graph ? [Uint8Array.from(head), graph.value, Uint8Array.from(added)] : [part.whole]));
    const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  function varint(value) {
    const bytes = [];
    for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
    return [...bytes, value];
  }

  return { read };
})();
