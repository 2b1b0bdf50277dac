// Pictures of frames, as they came: the latest ones are kept, others are asked for again.

const MOST_BYTES = 200 * 2 ** 20;

export class Pictures {
  // `ask(frame)` asks the server for a picture; `paint(frame, bitmap, size)` shows one.
  constructor(ask, paint) {
    this.ask = ask;
    this.paint = paint;
    this.clear();
  }

  clear() {
    this.kept = new Map();
    this.bytes = 0;
    this.wanted = null;
    this.asked = null;
    this.painting = Promise.resolve();
    this.round = {};
  }

  keep(frame, blob, size) {
    this.bytes += blob.size - (this.kept.get(frame)?.blob.size ?? 0);
    this.kept.delete(frame);
    this.kept.set(frame, { blob, size });
    for (const [oldest, { blob: old }] of this.kept) {
      if (this.bytes <= MOST_BYTES) break;
      this.kept.delete(oldest);
      this.bytes -= old.size;
    }
  }

  // Paints a kept picture; pictures are painted in the order of the calls. Resolves when it is done.
  paintKept(frame, still = () => true) {
    const { blob, size } = this.kept.get(frame);
    const { round } = this;
    this.painting = this.painting.then(async () => {
      if (round !== this.round || !still()) return;
      const bitmap = await createImageBitmap(blob);
      if (round === this.round && still()) this.paint(frame, bitmap, size);
      else bitmap.close();
    });
    return this.painting;
  }

  // Shows a frame as soon as its picture is there; of several wanted ones the last.
  want(frame) {
    this.wanted = frame;
    if (this.kept.has(frame)) this.paintKept(frame, () => this.wanted === frame);
    else if (this.asked === null) this.askFor(frame);
  }

  // A picture that was asked for has come.
  answer(frame) {
    this.asked = null;
    if (this.wanted === frame) this.paintKept(frame, () => this.wanted === frame);
    else if (this.wanted !== null) this.want(this.wanted);
  }

  // What was asked for does not come.
  forget() {
    this.asked = this.wanted = null;
  }

  askFor(frame) {
    this.asked = frame;
    this.ask(frame);
  }
}
