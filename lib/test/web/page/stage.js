// The frame with its boxes: drawing one, moving and resizing it, zooming.

import { clamp } from "./dom.js";

const EDGE = "#101010";
const CLICK = 4; // pixels on the screen: a drag that is shorter is a click
const DEEPEST = 20;
const HANDLES = { nw: [0, 0], n: [0.5, 0], ne: [1, 0], e: [1, 0.5], se: [1, 1], s: [0.5, 1], sw: [0, 1], w: [0, 0.5] };

export class Stage {
  // `drawn(box)` is called with xywh in the frame's pixels, `begin()` when a person starts to draw, `pick(boxes)` with
  // those under a click, the smallest first, `zoomed(scale)` after zooming.
  constructor(canvas, act) {
    Object.assign(this, { canvas, act, picture: null, size: [1, 1], boxes: [], colour: "", editable: true });
    Object.assign(this, { scale: 1, x: 0, y: 0, pointers: new Map(), gesture: null, dragged: null, grabbing: false });
    for (const [name, method] of [["down", "press"], ["move", "drag"], ["up", "release"], ["cancel", "cancel"]]) {
      canvas.addEventListener(`pointer${name}`, (event) => this[method](event));
    }
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    window.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
    new ResizeObserver(() => this.zoom(1, 0, 0)).observe(canvas);
  }

  // Shows an ImageBitmap of a frame of `size` [width, height], which may be larger than the picture.
  show(picture, size) {
    this.picture?.close();
    Object.assign(this, { picture, size });
    this.canvas.style.setProperty("--ratio", size[0] / size[1]);
    this.paint();
  }

  // Boxes to draw: {number, box, colour, selected, unsure, label}; `colour` of a new one; whether there are handles.
  setBoxes(boxes, colour, editable) {
    Object.assign(this, { boxes, colour, editable });
    this.paint();
  }

  // Screen pixels for one of the frame's.
  get fit() {
    return (this.canvas.clientWidth / this.size[0]) * this.scale;
  }

  // A box xywh on the canvas, in screen pixels.
  onScreen([x, y, w, h]) {
    return [this.x + x * this.fit, this.y + y * this.fit, w * this.fit, h * this.fit];
  }

  paint() {
    if (!this.picture) return;
    const { canvas, picture } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * ratio)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.drawImage(picture, this.x, this.y, canvas.clientWidth * this.scale, canvas.clientHeight * this.scale);
    for (const each of this.boxes) if (!this.dragged || !each.selected) this.paintBox(context, each);
    if (this.dragged) this.paintBox(context, { box: this.dragged, colour: this.colour, selected: true });
  }

  paintBox(context, { box, colour, selected, unsure, label }) {
    const [x, y, w, h] = this.onScreen(box);
    const line = (style, lineWidth, dashes) => {
      context.setLineDash(dashes);
      Object.assign(context, { strokeStyle: style, lineWidth });
      context.strokeRect(x, y, w, h);
    };
    line(EDGE, selected ? 5 : 4, []);
    line(colour, selected ? 3 : 2, unsure ? [8, 5] : []);
    context.setLineDash([]);
    if (selected && this.editable) {
      for (const [across, down] of handlesOf(w, h)) {
        context.beginPath();
        context.rect(x + across * w - 4, y + down * h - 4, 8, 8);
        Object.assign(context, { fillStyle: colour, strokeStyle: EDGE, lineWidth: 1.5 });
        context.fill();
        context.stroke();
      }
    }
    if (!label) return;
    context.font = "600 14px system-ui, sans-serif";
    const wide = context.measureText(label).width + 10;
    const top = y > 27 ? y - 26 : y + 6;
    const left = clamp(x, 0, Math.max(0, this.canvas.clientWidth - wide));
    context.fillStyle = colour;
    context.fillRect(left, top, wide, 19);
    context.fillStyle = EDGE;
    context.fillText(label, left + 5, top + 14.5);
  }

  press(event) {
    if (!this.picture || (event.pointerType === "mouse" && event.button > 1)) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.local(event));
    if (this.pointers.size === 2 && this.gesture?.kind === "wait") {
      this.gesture = { kind: "pinch" }; // else the first finger goes on drawing
    } else if (this.pointers.size === 1) {
      const kind = event.button === 1 || this.grabbing ? "pan" : "wait";
      const from = this.place(event);
      this.gesture = { kind, from, at: this.local(event), owner: event.pointerId, ...this.grip(event) };
    }
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.canvas.style.cursor = this.grabbing ? "grab" : { move: "move", new: "" }[this.grip(event).what] ?? `${this.grip(event).what}-resize`;
      return;
    }
    const now = this.local(event);
    const { gesture } = this;
    this.pointers.set(event.pointerId, now);
    if (gesture.kind === "pinch") {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const [was, is] = [before, now].map(([x, y]) => Math.hypot(x - other[0], y - other[1]));
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.zoom(is / Math.max(1, was), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (gesture.owner !== event.pointerId) {
      return;
    } else if (gesture.kind === "pan") {
      gesture.moved = true;
      this.panned = true;
      this.pan(now[0] - before[0], now[1] - before[1]);
    } else {
      if (gesture.kind === "wait" && Math.hypot(now[0] - gesture.at[0], now[1] - gesture.at[1]) > CLICK) {
        gesture.kind = "draw";
        this.act.begin();
      }
      if (gesture.kind === "draw") this.dragged = changed(gesture, this.place(event), this.size);
      this.paint();
    }
  }

  release(event) {
    if (!this.pointers.has(event.pointerId)) return;
    this.drag(event);
    this.pointers.delete(event.pointerId);
    const { gesture, dragged } = this;
    if (gesture.kind === "pinch") gesture.kind = "over"; // the finger that is left does nothing
    if (gesture.owner === event.pointerId) {
      this.gesture = { kind: "over" };
      this.dragged = null;
      if (gesture.kind === "draw") this.act.drawn(dragged);
      if (gesture.kind === "wait") this.act.pick(this.under(gesture.at));
    }
    this.paint();
  }

  cancel() {
    this.pointers.clear();
    this.gesture = this.dragged = null;
    this.paint();
  }

  // What a press there would do: {what: "new", "move", or the name of a handle, box}.
  grip(event) {
    const box = this.editable && !event.shiftKey ? this.boxes.find(({ selected }) => selected)?.box : null;
    if (!box) return { what: "new" };
    const [[x, y, w, h], [px, py]] = [this.onScreen(box), this.local(event)];
    const inside = px > x && px < x + w && py > y && py < y + h;
    const reach = inside ? Math.min(event.pointerType === "touch" ? 18 : 9, w / 4, h / 4) : event.pointerType === "touch" ? 18 : 9;
    for (const [name, [across, down]] of Object.entries(HANDLES)) {
      if (handlesOf(w, h).includes(HANDLES[name]) && Math.hypot(px - x - across * w, py - y - down * h) <= reach) return { what: name, box };
    }
    return inside ? { what: "move", box } : { what: "new" };
  }

  // The boxes at a place of the canvas, the smallest first.
  under([px, py]) {
    const at = this.boxes.filter(({ box }) => {
      const [x, y, w, h] = this.onScreen(box);
      return px >= x && px <= x + w && py >= y && py <= y + h;
    });
    return at.sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3]);
  }

  wheel(event) {
    if (!this.picture) return;
    event.preventDefault();
    this.zoom(1.0015 ** -clamp(event.deltaY * (event.deltaMode ? 30 : 1) * (event.ctrlKey ? 4 : 1), -400, 400), ...this.local(event));
  }

  // Makes the picture larger; the point [x, y] of the canvas stays where it is.
  zoom(times, x, y) {
    const scale = clamp(this.scale * times, 1, DEEPEST);
    const [left, top] = [x - ((x - this.x) * scale) / this.scale, y - ((y - this.y) * scale) / this.scale];
    Object.assign(this, { scale, x: left, y: top });
    this.pan(0, 0);
    this.act.zoomed(scale);
  }

  pan(right, down) {
    const { clientWidth, clientHeight } = this.canvas;
    this.x = clamp(this.x + right, clientWidth * (1 - this.scale), 0);
    this.y = clamp(this.y + down, clientHeight * (1 - this.scale), 0);
    this.paint();
  }

  // The space bar is held: dragging moves the picture. On letting go, whether it was moved.
  grab(held) {
    const { panned } = this;
    if (held !== this.grabbing) Object.assign(this, { grabbing: held, panned: false });
    this.canvas.style.cursor = held ? "grab" : "";
    return panned;
  }

  local({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  // Where a pointer is, in the frame's pixels, inside it.
  place(event) {
    const [x, y] = this.local(event);
    return [clamp((x - this.x) / this.fit, 0, this.size[0]), clamp((y - this.y) / this.fit, 0, this.size[1])];
  }
}

// A small box has handles at its corners only.
function handlesOf(w, h) {
  const all = Object.values(HANDLES);
  return Math.min(w, h) < 44 ? all.filter(([across, down]) => across !== 0.5 && down !== 0.5) : all;
}

// The box after a drag to `to`, which began at a grip.
function changed({ what, box, from }, to, [width, height]) {
  const [right, down] = [to[0] - from[0], to[1] - from[1]];
  if (what === "move") {
    const [x, y, w, h] = box;
    return round([clamp(x + right, 0, Math.max(0, width - w)), clamp(y + down, 0, Math.max(0, height - h)), w, h]);
  }
  let [a, b, c, d] = what === "new" ? [...from, ...to] : [box[0], box[1], box[0] + box[2], box[1] + box[3]];
  if (what !== "new") {
    if (what.includes("w")) a += right;
    if (what.includes("e")) c += right;
    if (what.includes("n")) b += down;
    if (what.includes("s")) d += down;
  }
  [a, c] = [a, c].map((value) => clamp(value, 0, width));
  [b, d] = [b, d].map((value) => clamp(value, 0, height));
  return round([Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)]);
}

const round = (box) => box.map((value) => Math.round(value * 10) / 10);
