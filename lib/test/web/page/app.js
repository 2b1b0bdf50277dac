// The page: what is known of the session, and what happens when.

import { Chooser } from "./chooser.js";
import { Connection } from "./connection.js";
import { $, isTaken } from "./dom.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const SURE_FROM = 0.5; // as in the demo of the command line
const STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const state = {
  hello: null,
  clip: null, // {name, frames, fps, width, height}
  objects: new Map(), // number to {number, colour, drawn: Map, results: Map}, both by frame
  selected: 1,
  shown: 0, // the frame on the stage
  size: [1, 1], // of that frame
  fps: null,
  running: false,
  exporting: false,
  ended: "", // why nothing can be done any more
  holding: false, // the stage stays where it is although frames arrive
  nudge: null, // a box that is being moved by keys: {box, timer}
};

const pictures = new Pictures((frame) => connection.send("show", { frame }), paint);
const stage = new Stage($("stage"), { drawn: draw, begin: hold });
const timeline = new Timeline($("timeline"), go);
const panel = new Panel({ select, add, remove, draw, complain, exportFile });
const chooser = new Chooser({ open, say, complain });
const connection = new Connection(handle, lost);

// What the server says

const answers = {
  hello(message) {
    state.hello = message;
    chooser.offer(message);
    panel.offer(message);
    $("connection").textContent = "";
  },
  opened(message) {
    dropNudge();
    state.exporting = false; // it ended with the clip before
    state.clip = message;
    state.objects.clear();
    pictures.clear();
    pictures.wanted = pictures.asked = 0; // its picture follows
    Object.assign(state, { shown: 0, running: false, holding: false, fps: null, size: [message.width, message.height] });
    select(newObject(1).number);
    $("chooser").hidden = true;
    $("work").hidden = false;
    $("clip-name").textContent = message.name;
    say("");
    if (message.box) connection.send("draw", { number: 1, frame: 0, box: message.box });
    $("stage").focus();
  },
  picture(message, picture) {
    pictures.keep(message.frame, picture, [message.width, message.height]);
    pictures.answer(message.frame);
  },
  frame(message, picture) {
    pictures.keep(message.frame, picture, [message.width, message.height]);
    for (const { object, box, score, drawn } of message.objects) {
      state.objects.get(object)?.results.set(message.frame, { box, score, drawn });
    }
    state.fps = message.fps;
    if (!state.holding) pictures.wanted = null;
    const painted = state.holding ? Promise.resolve() : pictures.paintKept(message.frame, () => !state.holding);
    painted.then(
      () => connection.send("ack"),
      () => connection.send("ack"),
    );
  },
  drawn({ object, frame, box }) {
    const each = state.objects.get(object) ?? newObject(object);
    each.drawn.set(frame, box);
    answers.forgotten({ object, frame });
  },
  forgotten({ object, frame }) {
    const results = state.objects.get(object)?.results ?? new Map();
    for (const index of [...results.keys()]) if (index >= frame) results.delete(index);
    refresh();
  },
  removed({ object }) {
    state.objects.delete(object);
    if (!state.objects.size) newObject(1);
    if (!state.objects.has(state.selected)) select([...state.objects.keys()][0]);
    refresh();
  },
  loading({ tracker, engine }) {
    say(`loading ${tracker} (${engine})`);
  },
  ended({ why, frames }) {
    state.running = state.holding = false;
    if (frames) state.clip.frames = frames;
    say({ end: "Tracked to the end.", paused: "Paused.", complete: "Everything is tracked. To correct it, go to a frame, draw the box again, and track." }[why] ?? "");
    refresh();
  },
  length({ frames }) {
    pictures.forget();
    state.clip.frames = frames;
    go(frames - 1);
  },
  progress({ share }) {
    $("export-bar").value = share;
  },
  exported({ what }) {
    state.exporting = false;
    const link = document.createElement("a");
    link.href = `api/sessions/${state.hello.session}/files/${what}`;
    link.download = "";
    link.click();
    say("The file is ready.");
    refresh();
  },
  error({ about, text }) {
    // A clip that cannot be opened has ended what was under way for the one before.
    if (about === "show" || about === "open") pictures.forget();
    if (about === "export" || about === "open") state.exporting = false;
    say("");
    complain(text);
    refresh();
  },
  closed({ text }) {
    state.ended = `${text}. Reload the page to go on.`;
    lost();
  },
};

function handle(message, picture) {
  answers[message.type](message, picture);
}

function lost() {
  state.ended ||= "The connection to the server is lost: is it still running? Reload the page.";
  $("connection").textContent = "not connected";
  state.running = state.exporting = false;
  say("");
  complain(state.ended);
  refresh();
}

// What a person does

function open(type, more = {}) {
  quiet();
  say("opening");
  connection.send(type, more);
}

function track() {
  if (state.running) return connection.send("pause");
  quiet();
  commitNudge();
  Object.assign(state, { running: true, holding: false });
  say("");
  refresh();
  return connection.send("track", panel.choice);
}

function hold() {
  state.holding = true;
  if (state.running) connection.send("pause");
}

function go(frame) {
  if (!state.clip) return;
  commitNudge();
  const last = Math.max(0, (state.clip.frames ?? 1) - 1);
  hold();
  pictures.want(Math.min(Math.max(frame, 0), last));
}

function select(number) {
  commitNudge(); // it is of the object before
  state.selected = number;
  refresh();
}

function add() {
  const number = [...Array(state.hello.objects).keys()].map((index) => index + 1).find((each) => !state.objects.has(each));
  if (number) select(newObject(number).number);
  $("stage").focus();
}

function remove() {
  dropNudge();
  connection.send("remove", { number: state.selected });
}

function draw(box) {
  quiet();
  const smallest = state.hello.smallest;
  const inside = (value, axis) => Math.min(Math.max(value, 0), state.size[axis]);
  const [x, y] = [inside(box[0], 0), inside(box[1], 1)];
  const [width, height] = [inside(box[0] + box[2], 0) - x, inside(box[1] + box[3], 1) - y];
  if (Math.min(box[2], box[3]) > 0 && Math.min(width, height) === 0) {
    return complain(`The box lies outside the frame, which is ${state.size.join("x")}.`);
  }
  if (Math.min(width, height) < smallest) {
    return complain(`The box is too small (${Math.round(width)}x${Math.round(height)} pixels): draw it at least ${smallest} pixels wide and high.`);
  }
  hold();
  return connection.send("draw", { number: state.selected, frame: state.shown, box: [x, y, width, height] });
}

function exportFile(what) {
  quiet();
  commitNudge();
  $("export-bar").value = 0;
  state.exporting = true;
  say("writing the file");
  refresh();
  connection.send("export", { what });
}

// Moves the selected box by keys, or makes one to be moved; it is sent when the keys rest.
function nudge(key, resize) {
  const [width, height] = state.size;
  const before = state.nudge?.box ?? at(selectedObject(), state.shown)?.box ?? [width * 0.375, height * 0.375, width / 4, height / 4];
  const step = STEP[key].map((value) => value * Math.max(1, Math.round(width / 320)));
  const box = resize
    ? [before[0], before[1], Math.max(before[2] + step[0], state.hello.smallest), Math.max(before[3] + step[1], state.hello.smallest)]
    : [before[0] + step[0], before[1] + step[1], before[2], before[3]];
  hold();
  clearTimeout(state.nudge?.timer);
  state.nudge = { box, timer: setTimeout(commitNudge, 350) };
  refresh();
}

function commitNudge() {
  if (!state.nudge) return;
  const { box } = state.nudge;
  dropNudge();
  draw(box);
}

function dropNudge() {
  clearTimeout(state.nudge?.timer);
  state.nudge = null;
}

// What is shown

function newObject(number) {
  const made = { number, colour: state.hello.colours[(number - 1) % state.hello.colours.length], drawn: new Map(), results: new Map() };
  state.objects.set(number, made);
  state.objects = new Map([...state.objects].sort(([a], [b]) => a - b));
  return made;
}

const selectedObject = () => state.objects.get(state.selected);

function at(object, frame) {
  const drawn = object.drawn.get(frame);
  return drawn ? { box: drawn, score: null, drawn: true } : (object.results.get(frame) ?? null);
}

function paint(frame, bitmap, size) {
  Object.assign(state, { shown: frame, size });
  stage.show(bitmap, size);
  refresh();
}

function refresh() {
  if (!state.clip) return;
  const { clip, shown, running } = state;
  const objects = [...state.objects.values()].map((each) => ({ ...each, at: at(each, shown) }));
  const selected = objects.find(({ number }) => number === state.selected);
  if (state.nudge && selected) selected.at = { box: state.nudge.box, score: null, drawn: true };
  const visible = objects.filter((each) => each.at).sort((a, b) => (a === selected) - (b === selected));
  stage.setBoxes(
    visible.map(({ number, colour, at: { box, score } }) => ({
      box,
      colour,
      selected: number === state.selected,
      unsure: score !== null && score < SURE_FROM,
      label: objects.length > 1 ? `${number}` : "",
    })),
    selected?.colour,
  );
  const tracked = objects.some(({ results }) => results.size > 0);
  panel.update({
    objects: objects.map((each) => ({ ...each, drawn: each.drawn.size > 0 })),
    selected: state.selected,
    most: state.hello.objects,
    busy: running || state.exporting,
    tracked,
  });
  $("export-bar").hidden = !state.exporting;
  const total = Math.max(clip.frames ?? 1, shown + 1);
  timeline.update(total, shown, objects);
  const drawn = objects.some((each) => each.drawn.size > 0);
  $("track").textContent = running ? "Pause" : "Track";
  $("track").disabled = !drawn;
  $("track").classList.toggle("ready", drawn && !running && !tracked);
  $("hint").textContent = drawn || running ? "" : "Draw a box around what to follow";
  $("scrub").max = total - 1;
  $("scrub").value = shown;
  showFacts(selected?.at ?? null, total);
}

function showFacts(found, total) {
  const { shown, fps, clip } = state;
  const score = found?.score ?? null;
  const facts = [`frame ${shown + 1} of ${total}`];
  if (score !== null) facts.push(`confidence ${score.toFixed(2)}`);
  if (found?.drawn) facts.push("drawn");
  if (fps !== null) facts.push(`${fps.toFixed(fps < 10 ? 1 : 0)} FPS`);
  $("facts").replaceChildren(
    ...facts.map((text) => {
      const part = document.createElement("span");
      part.textContent = text;
      return part;
    }),
  );
  $("scrub").setAttribute("aria-valuetext", facts.join(", "));
  $("clip-facts").textContent = `${clip.width}x${clip.height}, ${clip.frames ?? "?"} frames, ${Math.round(clip.fps)} a second`;
}

function say(text) {
  $("status").textContent = $("chooser-status").textContent = text;
}

function complain(text) {
  const sentence = text.replace(/^[a-z]+ /, (word) => word.charAt(0).toUpperCase() + word.slice(1)); // but no file's name
  $("alert-text").textContent = sentence + (/[.!?]$/.test(sentence) ? "" : ".");
  $("alert").hidden = false;
  $("alert").scrollIntoView({ block: "nearest" });
}

function quiet() {
  $("alert").hidden = true;
}

$("track").addEventListener("click", track);
$("back").addEventListener("click", () => go(state.shown - 1));
$("forward").addEventListener("click", () => go(state.shown + 1));
$("scrub").addEventListener("input", () => go($("scrub").valueAsNumber));
$("alert-close").addEventListener("click", quiet);
$("change").addEventListener("click", () => {
  if (state.running) connection.send("pause");
  $("chooser").hidden = false;
  $("chooser").scrollIntoView();
  document.querySelector("#chooser button, #file")?.focus();
});
$("stage").addEventListener("keydown", (event) => {
  if (!(event.key in STEP) || !state.clip || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  nudge(event.key, event.shiftKey);
});
document.addEventListener("keydown", (event) => {
  if (!state.clip || isTaken(event) || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " " && !$("track").disabled) track();
  else if (event.key === ",") go(state.shown - 1);
  else if (event.key === ".") go(state.shown + 1);
  else if (state.objects.has(Number(event.key))) select(Number(event.key));
  else return;
  event.preventDefault();
});
