// Pictures of frames: the latest ones are kept, others are asked for again.

const MOST = 1000; // about 200 MB

export class Pictures {
  // `ask(frame)` asks the server for a picture; `paint(frame, bitmap, size)` shows one.
  constructor(act) {
    Object.assign(this, act, { decoding: false });
    this.clear();
  }

  clear() {
    Object.assign(this, { kept: new Map(), asking: false });
    this.stop();
  }

  get isBusy() {
    return this.wanted !== null || this.decoding;
  }

  keep(frame, blob, size) {
    this.kept.delete(frame); // the map is in the order of arrival
    this.kept.set(frame, { blob, size });
    if (this.kept.size > MOST) this.kept.delete(this.kept.keys().next().value);
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

  // The picture that was asked for has come.
  answered() {
    this.asking = false;
    this.next();
  }

  // The picture that was asked for does not come.
  refused() {
    this.stop();
    this.answered();
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
    this.decoding = true;
    const bitmap = await createImageBitmap(picture.blob);
    this.decoding = false;
    if (this.wanted === frame) this.wanted = null;
    if (round === this.round) this.paint(frame, bitmap, picture.size);
    else bitmap.close();
    this.next();
  }
}
