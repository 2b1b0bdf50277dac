// Confidence over time, a line for each object, and where boxes were drawn.

import { clamp } from "./dom.js";

const MARGIN = 8;

export class Timeline {
  // `go(frame)` is called where a person points to.
  constructor(canvas, go) {
    Object.assign(this, { canvas, total: 1, frame: 0, objects: [], waiting: false });
    const point = ({ clientX }) => {
      const { left, width } = canvas.getBoundingClientRect();
      go(Math.round(clamp((clientX - left) / width, 0, 1) * (this.total - 1)));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && point(event));
    new ResizeObserver(() => this.repaint()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  // `objects`: {colour, results: Map of frame to {score, drawn}}.
  update(total, frame, objects) {
    Object.assign(this, { total, frame, objects });
    this.repaint();
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
    const { canvas, total, frame } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) }); // clears it
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const x = (index) => ((index + 0.5) / total) * width;
    const y = (score) => MARGIN + (1 - score) * (height - 2 * MARGIN);
    const line = (colour, lineWidth, points) => {
      Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth });
      context.beginPath();
      for (const [index, point] of points.entries()) {
        if (index === 0) context.moveTo(...point);
        else context.lineTo(...point);
      }
      context.stroke();
    };
    const style = getComputedStyle(canvas);
    line(style.getPropertyValue("--edge"), 1, [[0, y(0.5)], [width, y(0.5)]]);
    for (const { colour, results } of this.objects) {
      // A tracker that does not say how sure it is has a line in the middle, a drawn box the highest place.
      line(colour, 2, [...results].map(([index, { score, drawn }]) => [x(index), y(score ?? (drawn ? 1 : 0.5))]));
      for (const [index, { drawn }] of results) {
        context.beginPath();
        if (drawn) context.arc(x(index), y(1), 4, 0, 2 * Math.PI);
        context.fill();
      }
    }
    line(style.getPropertyValue("--ink"), 2, [[x(frame), 0], [x(frame), height]]);
  }
}
