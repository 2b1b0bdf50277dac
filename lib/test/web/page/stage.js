// The frame with its boxes, and drawing one.

import { clamp } from "./dom.js";

const EDGE = "#101010";
const LEAST_SIDE = 704; // smaller pictures are enlarged: a finger is wide

export class Stage {
  // `drawn(box)` is called with xywh in the frame's pixels; `begin()` when a person starts to draw.
  constructor(canvas, { drawn, begin }) {
    Object.assign(this, { canvas, drawn, begin, picture: null, size: [1, 1], boxes: [], colour: "", start: null, end: null });
    // Of several fingers the first draws.
    const on = (name, act) => canvas.addEventListener(name, (event) => event.isPrimary && act(event));
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.drag(event));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", () => this.cancel());
    window.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  // Shows an ImageBitmap of a frame of `size` [width, height], which may be larger than the picture.
  show(picture, size) {
    this.picture?.close();
    Object.assign(this, { picture, size });
    const times = Math.max(1, Math.floor(LEAST_SIDE / Math.max(picture.width, picture.height)));
    const [width, height] = [picture.width * times, picture.height * times];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.paint();
  }

  // Boxes to draw: {box, colour, selected, unsure, label}; `colour` of a box that is being drawn.
  setBoxes(boxes, colour) {
    Object.assign(this, { boxes, colour });
    this.paint();
  }

  paint() {
    if (!this.picture) return;
    const context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0, this.canvas.width, this.canvas.height);
    // Lines are as wide on the screen for any picture's size.
    const unit = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    for (const each of this.boxes) this.paintBox(context, each, unit);
    if (this.end) this.paintBox(context, { box: this.dragged(), colour: this.colour, selected: true }, unit);
  }

  paintBox(context, { box, colour, selected, unsure, label }, unit) {
    const [x, y, w, h] = box.map((value) => (value * this.canvas.width) / this.size[0]);
    const line = (style, width, dashes) => {
      context.setLineDash(dashes);
      Object.assign(context, { strokeStyle: style, lineWidth: width * unit });
      context.strokeRect(x, y, w, h);
    };
    line(EDGE, selected ? 5 : 4, []);
    line(colour, selected ? 3 : 2, unsure ? [8 * unit, 5 * unit] : []);
    if (!label) return;
    context.font = `600 ${14 * unit}px system-ui, sans-serif`;
    const wide = context.measureText(label).width + 10 * unit;
    const top = y > 22 * unit ? y - 21 * unit : y + 3 * unit;
    const left = clamp(x, 0, this.canvas.width - wide);
    context.fillStyle = colour;
    context.fillRect(left, top, wide, 19 * unit);
    context.fillStyle = EDGE;
    context.fillText(label, left + 5 * unit, top + 14.5 * unit);
  }

  press(event) {
    if (!this.picture || event.button > 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.start = this.place(event);
    this.begin();
  }

  drag(event) {
    if (!this.start) return;
    this.end = this.place(event);
    this.paint();
  }

  release(event) {
    if (!this.start) return;
    this.drag(event);
    const box = this.dragged();
    this.cancel();
    if (Math.max(box[2], box[3]) >= 2) this.drawn(box); // a click is no box
  }

  cancel() {
    this.start = this.end = null;
    this.paint();
  }

  // Where a pointer is, in the frame's pixels, inside it.
  place({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [clamp((clientX - left) / width, 0, 1) * this.size[0], clamp((clientY - top) / height, 0, 1) * this.size[1]];
  }

  dragged() {
    const [[a, b], [c, d]] = [this.start, this.end];
    return [Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)].map((value) => Math.round(value * 10) / 10);
  }
}
