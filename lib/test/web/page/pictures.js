// Pictures of frames: the latest ones are kept, others are asked for again.

const MOST_BYTES = 200 * 2 ** 20;

export class Pictures {
  // `ask(frame)` asks the server for a picture; `paint(frame, bitmap, size)` shows one.
  constructor(ask, paint) {
    Object.assign(this, { ask, paint, decoding: false });
    this.clear();
  }

  clear() {
    Object.assign(this, { kept: new Map(), bytes: 0, asking: false });
    this.stop();
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

  // Shows a frame as soon as its picture is there; of several frames the last.
  want(frame) {
    this.wanted = frame;
    this.next();
  }

  // Shows nothing more, not even the picture that is being decoded.
  stop() {
    this.wanted = null;
    this.round = {};
  }

  // The picture that was asked for has come, or does not come.
  answered() {
    this.asking = false;
    this.next();
  }

  async next() {
    const { wanted: frame, round } = this;
    const picture = this.kept.get(frame);
    if (frame === null || this.decoding || (!picture && this.asking)) return;
    if (!picture) {
      this.asking = true;
      this.ask(frame);
      return;
    }
    this.wanted = null;
    this.decoding = true;
    const bitmap = await createImageBitmap(picture.blob);
    this.decoding = false;
    if (round === this.round) this.paint(frame, bitmap, picture.size);
    else bitmap.close();
    this.next();
  }
}
