// Over time: confidence, and for each object where it has boxes, where they were drawn, where it is absent.

import { clamp } from "./dom.js";

const CURVES = 44; // pixels
const LANE = 12;
const AXIS = 30;
const NICE = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // seconds between two marks
const LEAST_FRAMES = 10;

export class Timeline {
  // `go(frame)` is called where a person points to.
  constructor(canvas, go) {
    Object.assign(this, { canvas, total: 1, frame: 0, fps: 25, objects: [], range: [null, null], first: 0, shown: 1, waiting: false });
    const point = ({ clientX }) => go(this.frameAt(clientX));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && point(event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move(this.first + (event.deltaX / canvas.clientWidth) * this.shown);
      else this.zoom(1.0015 ** clamp(event.deltaY * (event.deltaMode ? 30 : 1), -400, 400), this.frameAt(event.clientX));
    }, { passive: false });
    new ResizeObserver(() => this.repaint()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  // `objects`: {colour, boxes: Map of frame to {score, drawn}, absent}; `range`: first and last frame, or null.
  update(total, frame, fps, objects, range) {
    if (total !== this.total) Object.assign(this, { first: 0, shown: total });
    const isNew = frame !== this.frame;
    Object.assign(this, { total, frame, fps, objects, range });
    if (isNew && (frame < this.first || frame > this.first + this.shown - 1)) this.move(frame - this.shown / 2);
    this.repaint();
  }

  // Shows `times` as many frames, around one of them.
  zoom(times, around = this.frame) {
    const shown = clamp(this.shown * times, Math.min(LEAST_FRAMES, this.total), this.total);
    const share = (around - this.first) / this.shown;
    this.shown = shown;
    this.move(around - share * shown);
  }

  move(first) {
    this.first = clamp(first, 0, this.total - this.shown);
    this.repaint();
  }

  frameAt(clientX) {
    const { left, width } = this.canvas.getBoundingClientRect();
    return clamp(Math.floor(this.first + ((clientX - left) / width) * this.shown), 0, this.total - 1);
  }

  repaint() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { canvas, objects } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, CURVES + LANE * objects.length + AXIS];
    canvas.style.height = `${height}px`;
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) }); // clears it
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colours = Object.fromEntries(["edge", "ink", "quiet", "accent"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
    const x = (index) => ((index + 0.5 - this.first) / this.shown) * width;
    this.paintRange(context, x, height, colours);
    this.paintAxis(context, x, width, height - AXIS, colours);
    for (const [index, each] of objects.entries()) {
      this.paintCurve(context, x, each);
      this.paintLane(context, x, CURVES + LANE * (index + 0.5), each, width / this.shown);
    }
    context.fillStyle = colours.ink;
    context.fillRect(x(this.frame) - 1, 0, 2, height - AXIS + 4);
  }

  paintRange(context, x, height, { accent }) {
    if (this.range.every((end) => end === null)) return;
    const [first, last] = [this.range[0] ?? 0, this.range[1] ?? this.total - 1];
    Object.assign(context, { fillStyle: accent, globalAlpha: 0.18 });
    context.fillRect(x(first - 0.5), 0, x(last + 0.5) - x(first - 0.5), height - AXIS);
    context.globalAlpha = 1;
  }

  // Marks with seconds, and below them frames counted from 1.
  paintAxis(context, x, width, top, { edge, ink, quiet }) {
    const step = NICE.find((seconds) => ((seconds * this.fps) / this.shown) * width >= 64) ?? NICE.at(-1);
    context.fillStyle = edge;
    context.fillRect(0, CURVES / 2, width, 1);
    context.fillRect(0, top, width, 1);
    context.font = "11px system-ui, sans-serif";
    const marks = Math.ceil((this.first + this.shown) / this.fps / step);
    for (let mark = Math.floor(this.first / this.fps / step); mark <= marks; mark += 1) {
      const frame = Math.round(mark * step * this.fps);
      if (frame >= this.total) break;
      const seconds = mark * step;
      const time = seconds < 60 ? `${Number(seconds.toFixed(1))} s` : `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;
      context.fillStyle = quiet;
      context.fillRect(x(frame), top, 1, 5);
      const left = clamp(x(frame) + 4, 2, Math.max(2, width - 34));
      context.fillText(`${frame + 1}`, left, top + 26);
      context.fillStyle = ink;
      context.fillText(time, left, top + 13);
    }
  }

  // A tracker that does not say how sure it is has a line in the middle, a drawn box the highest place.
  paintCurve(context, x, { colour, boxes }) {
    Object.assign(context, { strokeStyle: colour, lineWidth: 2 });
    context.beginPath();
    let before = null;
    for (const [index, { score, drawn }] of [...boxes].sort(([a], [b]) => a - b)) {
      const y = 6 + (1 - (score ?? (drawn ? 1 : 0.5))) * (CURVES - 12);
      if (before === index - 1) context.lineTo(x(index), y);
      else context.moveTo(x(index), y);
      before = index;
    }
    context.stroke();
  }

  // A bar where there are boxes, a diamond for each drawn one, a hollow bar where the object is absent.
  paintLane(context, x, y, { colour, boxes, absent }, wide) {
    Object.assign(context, { fillStyle: colour, strokeStyle: colour, lineWidth: 1 });
    for (const index of boxes.keys()) context.fillRect(x(index - 0.5), y - 1.5, wide + 0.5, 3);
    for (const index of absent) {
      context.fillRect(x(index - 0.5), y - 5, wide + 0.5, 1);
      context.fillRect(x(index - 0.5), y + 4, wide + 0.5, 1);
    }
    for (const [index, { drawn }] of boxes) {
      if (!drawn) continue;
      context.beginPath();
      for (const [right, down] of [[0, -5], [5, 0], [0, 5], [-5, 0]]) context.lineTo(x(index) + right, y + down);
      context.fill();
    }
  }
}
