// The objects of a clip, and the form in which they are sent and kept.

import { clamp } from "./dom.js";

const STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SMALLEST = 4; // pixels a side of a box that is made smaller by keys

// Objects by number: {number, name, colour, choice, boxes, absent}; boxes by frame are {box, score, drawn}.
export function unpack(kept, colours) {
  const objects = kept.map(({ number, name, choice, drawn, absent, boxes }) => {
    const isDrawn = new Set(drawn);
    const found = boxes.map(([frame, x, y, w, h, score]) => [frame, { box: [x, y, w, h], score, drawn: isDrawn.has(frame) }]);
    return [number, { number, name, choice, colour: colours[number - 1], boxes: new Map(found), absent: new Set(absent) }];
  });
  return new Map(objects);
}

// As the server takes them, and as they are kept.
export function pack(objects) {
  return [...objects.values()].map(({ number, name, choice, boxes, absent }) => ({
    number,
    name,
    choice,
    drawn: [...boxes].filter(([, { drawn }]) => drawn).map(([frame]) => frame),
    absent: [...absent],
    boxes: [...boxes].map(([frame, { box, score }]) => [frame, ...box, score]),
  }));
}

export const hasWork = (objects) => objects.some(({ boxes, absent }) => boxes.length + absent.length > 0);

// How many frames of an object were tracked.
export const tracked = ({ boxes }, first = 0, last = Infinity) =>
  [...boxes].filter(([frame, { drawn }]) => !drawn && frame >= first && frame <= last).length;

// A box moved by an arrow key, or its size changed; one in the middle of the frame where there is none.
export function nudged(box, key, resize, [width, height]) {
  const [x, y, w, h] = box ?? [width * 0.375, height * 0.375, width / 4, height / 4];
  const [right, down] = STEP[key];
  return resize
    ? [x, y, clamp(w + right, SMALLEST, width - x), clamp(h + down, SMALLEST, height - y)]
    : [clamp(x + right, 0, width - w), clamp(y + down, 0, height - h), w, h];
}
