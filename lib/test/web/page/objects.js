// The objects of a clip, and the browser's store that keeps them.

const PREFIX = "stark work ";

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

export const keyOf = ({ name, frames, width, height }) => `${PREFIX}${name}, ${frames} frames, ${width}x${height}`;

export function keptWork(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null; // the store is switched off
  }
}

// The keys of all that is kept, the latest first.
export function keptKeys() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.sort((a, b) => keptWork(b).time - keptWork(a).time);
  } catch {
    return [];
  }
}

// Keeps work {name, source, objects}; where the store is full, the oldest goes. False where nothing can be kept.
export function keepWork(key, work) {
  for (;;) {
    try {
      localStorage.setItem(key, JSON.stringify({ time: Date.now(), ...work }));
      return true;
    } catch {
      const oldest = keptKeys().filter((each) => each !== key).pop();
      if (!oldest) return false;
      localStorage.removeItem(oldest);
    }
  }
}
