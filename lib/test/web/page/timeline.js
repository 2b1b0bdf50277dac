// Confidence over time, a line for each object, and where boxes were drawn.

const TOP = 8;
const BOTTOM = 8;

export class Timeline {
  // `go(frame)` is called where a person points to.
  constructor(canvas, go) {
    this.canvas = canvas;
    this.state = { total: 1, frame: 0, objects: [] };
    this.waiting = false;
    const point = (event) => go(this.frameAt(event));
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
    this.state = { total: Math.max(1, total), frame, objects };
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

  frameAt(event) {
    const area = this.canvas.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1);
    return Math.round(share * (this.state.total - 1));
  }

  paint() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const { total, frame, objects } = this.state;
    const x = (index) => ((index + 0.5) / total) * width;
    const y = (score) => TOP + (1 - score) * (height - TOP - BOTTOM);
    context.strokeStyle = style.getPropertyValue("--edge");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y(0.5));
    context.lineTo(width, y(0.5));
    context.stroke();
    for (const each of objects) this.paintObject(context, each, x, y);
    context.strokeStyle = style.getPropertyValue("--ink");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x(frame), 0);
    context.lineTo(x(frame), height);
    context.stroke();
  }

  paintObject(context, { colour, results }, x, y) {
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    let before = null;
    for (const [index, { score }] of results) {
      // A tracker that does not say how sure it is has a line in the middle, a drawn box the highest place.
      const place = y(score ?? (results.get(index).drawn ? 1 : 0.5));
      if (before === index - 1) context.lineTo(x(index), place);
      else context.moveTo(x(index), place);
      before = index;
    }
    context.stroke();
    for (const [index, { drawn }] of results) {
      if (!drawn) continue;
      context.beginPath();
      context.arc(x(index), y(1), 4, 0, 2 * Math.PI);
      context.fill();
    }
  }
}
