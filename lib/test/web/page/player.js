// Plays frames at a speed: where pictures come late, frames are left out.

export class Player {
  // `show(frame)` shows one, `isBusy()` says whether the last one is still on its way, `changed()` that it began or ended.
  constructor(act) {
    Object.assign(this, act, { playing: false });
  }

  // Frames `from` to `last`, `rate` of them a second.
  start(from, last, rate) {
    Object.assign(this, { playing: true, from, last, rate, frame: from, begun: performance.now() });
    this.changed();
    requestAnimationFrame((now) => this.tick(now));
  }

  stop() {
    if (!this.playing) return;
    this.playing = false;
    this.changed();
  }

  // Another speed, from the frame that is shown.
  speed(rate) {
    Object.assign(this, { rate, from: this.frame, begun: performance.now() });
  }

  tick(now) {
    if (!this.playing) return;
    if (!this.isBusy()) {
      const frame = Math.min(this.last, this.from + Math.floor((Math.max(0, now - this.begun) / 1000) * this.rate));
      if (frame !== this.frame) this.show(frame);
      else if (frame === this.last) this.stop();
      this.frame = frame;
    }
    requestAnimationFrame((later) => this.tick(later));
  }
}
