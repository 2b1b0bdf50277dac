// The work in the browser's store: it outlives the page.

const PREFIX = "stark work ";
const OPEN = "stark open"; // the clip of this tab
const EVERY = 1000; // ms
const LARGEST = 4e6; // characters: browsers take about five million of all works together

export class Keeper {
  // `current()` gives the work that is kept: {name, source, objects}; `failed()` is called once where it cannot be.
  constructor(current, failed) {
    Object.assign(this, { current, failed, key: null, timer: null });
  }

  // Another clip is open.
  open(clip, source) {
    this.key = keyOf(clip, source);
    attempt(() => sessionStorage.setItem(OPEN, this.key));
  }

  // The work on this clip, or null.
  found() {
    return keptWork(this.key);
  }

  // The work that was kept last, or null, and whether it is of the clip that this tab had open.
  last() {
    const [key] = keptKeys();
    return key ? { last: keptWork(key), isSame: sessionStorage.getItem(OPEN) === key } : { last: null, isSame: false };
  }

  soon() {
    this.timer ??= setTimeout(() => this.keep(), EVERY);
  }

  // Keeps what has changed, at once.
  keep() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.timer = null;
    const work = this.current();
    if (!work || keepWork(this.key, work)) return;
    this.failed();
    this.failed = () => {};
  }
}

// Pictures of most sequences have the same names: the path or the size tells two of them apart.
export const keyOf = ({ name, frames, width, height, bytes }, source) =>
  `${PREFIX}${source.more.path ?? name}, ${frames} frames, ${width}x${height}${bytes ? `, ${bytes} bytes` : ""}`;

// What `act` gives; null where the store is full, or switched off.
function attempt(act) {
  try {
    return act();
  } catch {
    return null;
  }
}

const keptWork = (key) => attempt(() => JSON.parse(localStorage.getItem(key)));

// The keys of all that is kept, the latest first.
function keptKeys() {
  const keys = attempt(() => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX) && keptWork(key))) ?? [];
  return keys.sort((a, b) => keptWork(b).time - keptWork(a).time);
}

// Keeps work {name, source, objects}; where the store is full, the oldest goes. False where it cannot be kept.
function keepWork(key, work) {
  const text = JSON.stringify({ time: Date.now(), ...work });
  if (text.length > LARGEST) return false;
  while (attempt(() => localStorage.setItem(key, text)) === null) {
    const oldest = keptKeys().filter((each) => each !== key).pop();
    if (!oldest) return false;
    localStorage.removeItem(oldest);
  }
  return true;
}
