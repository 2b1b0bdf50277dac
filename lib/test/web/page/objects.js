// The objects of a clip, and the form in which they are sent and kept.

// Objects by number: {number, name, colour, choice, boxes, absent}; boxes by frame are {box, score, drawn}.
export function unpack(kept, colours) {
  const objects = kept.map(({ number, name, choice, drawn, absent, boxes }) => {
    const isDrawn = new Set(drawn);
    const found = boxes.map(([frame, x, y, w, h, score]) => [frame, { box: [x, y, w, h], score, drawn: isDrawn.has(frame) }]);
    return [number, { number, name, choice, colour: colours[number - 1], boxes: new Map(found), absent: new Set(absent) }];
  });
  return new Map(objects.sort(([a], [b]) => a - b));
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
