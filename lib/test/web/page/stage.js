// The frame with its boxes, and drawing one.

const EDGE = "#101010";
const LEAST_SIDE = 704; // smaller pictures are enlarged: a finger is wide

export class Stage {
  // `drawn(box)` is called with xywh in the frame's pixels; `begin()` when a person starts to draw.
  constructor(canvas, { drawn, begin }) {
    this.canvas = canvas;
    this.drawn = drawn;
    this.begin = begin;
    this.picture = null;
    this.size = [1, 1];
    this.boxes = [];
    this.start = null;
    this.end = null;
    this.colour = "#ffffff";
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => event.isPrimary && this.cancel());
    window.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  // Shows an ImageBitmap of a frame of `size` [width, height], which may be larger than the picture.
  show(picture, size) {
    this.picture?.close();
    this.picture = picture;
    this.size = size;
    const times = Math.max(1, Math.floor(LEAST_SIDE / Math.max(picture.width, picture.height)));
    const [width, height] = [picture.width * times, picture.height * times];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.paint();
  }

  // Boxes to draw: {box, colour, selected, unsure, label}.
  setBoxes(boxes, colour) {
    this.boxes = boxes;
    this.colour = colour;
    this.paint();
  }

  paint() {
    if (!this.picture) return;
    const context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0, this.canvas.width, this.canvas.height);
    // Lines as wide on the screen whatever the picture's size.
    const unit = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    const scale = this.canvas.width / this.size[0];
    for (const each of this.boxes) this.paintBox(context, each, scale, unit);
    if (this.start && this.end) {
      const [x, y, w, h] = this.dragged();
      this.paintBox(context, { box: [x, y, w, h], colour: this.colour, selected: true }, scale, unit);
    }
  }

  paintBox(context, { box, colour, selected, unsure, label }, scale, unit) {
    const [x, y, w, h] = box.map((value) => value * scale);
    const width = (selected ? 3 : 2) * unit;
    context.setLineDash([]);
    context.strokeStyle = EDGE;
    context.lineWidth = width + 2 * unit;
    context.strokeRect(x, y, w, h);
    context.setLineDash(unsure ? [8 * unit, 5 * unit] : []);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(x, y, w, h);
    context.setLineDash([]);
    if (!label) return;
    context.font = `600 ${14 * unit}px system-ui, sans-serif`;
    const wide = context.measureText(label).width + 10 * unit;
    const top = y > 22 * unit ? y - 21 * unit : y + 3 * unit;
    const left = Math.max(0, Math.min(x, this.canvas.width - wide));
    context.fillStyle = colour;
    context.fillRect(left, top, wide, 19 * unit);
    context.fillStyle = EDGE;
    context.fillText(label, left + 5 * unit, top + 14.5 * unit);
  }

  press(event) {
    if (!this.picture || event.button > 0 || !event.isPrimary) return; // of several fingers the first draws
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.start = this.place(event);
    this.end = null;
    this.begin();
  }

  drag(event) {
    if (!this.start || !event.isPrimary) return;
    this.end = this.place(event);
    this.paint();
  }

  release(event) {
    if (!this.start || !event.isPrimary) return;
    this.end = this.place(event);
    const box = this.dragged();
    // A click is no box, and not worth a message.
    const clicked = box[2] < 2 && box[3] < 2;
    this.cancel();
    if (!clicked) this.drawn(box);
  }

  cancel() {
    this.start = this.end = null;
    this.paint();
  }

  // Where a pointer is, in the frame's pixels, inside it.
  place(event) {
    const area = this.canvas.getBoundingClientRect();
    const [width, height] = this.size;
    return [
      Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1) * width,
      Math.min(Math.max((event.clientY - area.top) / area.height, 0), 1) * height,
    ];
  }

  dragged() {
    const [a, b] = this.start;
    const [c, d] = this.end;
    return [Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)].map((value) => Math.round(value * 10) / 10);
  }
}
