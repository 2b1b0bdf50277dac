// The page: its state, the answers of the server, and the actions of the person.

import { Chooser } from "./chooser.js";
import { $, clamp, isModified, isTaken, make } from "./dom.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { connect } from "./server.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const SURE_FROM = 0.5; // as in the demo of the command line
const STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SMALLEST = 4; // pixels a side of a box that is made smaller by keys
const ENDS = {
  end: "Tracked to the end.",
  paused: "Paused.",
  complete: "Everything is tracked. To correct it, go to a frame, draw the box again, and track.",
};

const state = {
  hello: null,
  clip: null, // {name, frames, fps, width, height}
  opening: false, // its first picture has yet to come
  objects: new Map(), // number to {number, colour, drawn: Map, results: Map}, both by frame
  selected: 1,
  shown: 0, // the frame on the stage
  size: [1, 1], // of that frame
  fps: null,
  running: false,
  exporting: false,
  unanswered: 0, // boxes on their way to the server
  holding: false, // the stage stays where it is although frames arrive
};

const pictures = new Pictures({ ask: (frame) => send("show", { frame }), paint });
const stage = new Stage($("stage"), { drawn: draw, begin });
const timeline = new Timeline($("timeline"), go);
const panel = new Panel({ select, add, remove: () => send("remove", { number: state.selected }), draw, complain, exportFile });
const chooser = new Chooser({ open, browse: (path) => send("browse", { path }), say, complain });
const send = connect((message, picture) => answers[message.type](message, picture), lost);

const answers = {
  hello(message) {
    state.hello = message;
    chooser.offer(message);
    panel.offer(message);
    $("connection").textContent = "";
  },
  listed: (message) => chooser.list(message),
  opened(message) {
    pictures.clear();
    state.objects.clear();
    Object.assign(state, { clip: message, opening: true, shown: 0, fps: null, running: false, exporting: false, holding: true });
    pictures.wanted = 0; // it follows
    select(newObject(1).number);
    if (message.box) draw(message.box);
  },
  picture({ frame, width, height }, picture) {
    pictures.keep(frame, picture, [width, height]);
    pictures.answered();
  },
  frame({ frame, width, height, objects, fps }, picture) {
    pictures.keep(frame, picture, [width, height]);
    for (const { object, ...found } of objects) state.objects.get(object)?.results.set(frame, found);
    state.fps = fps;
    say(""); // it is loaded
    if (state.holding) refresh();
    else pictures.want(frame);
  },
  drawn({ object, frame, box }) {
    const { drawn } = state.objects.get(object) ?? newObject(object);
    state.unanswered -= 1;
    if (!state.unanswered || !drawn.has(frame)) drawn.set(frame, box); // else a key has moved it since
    answers.forgotten({ object, frame });
  },
  forgotten({ object, frame }) {
    const { results } = state.objects.get(object) ?? newObject(object);
    for (const index of [...results.keys()]) if (index >= frame) results.delete(index);
    refresh();
  },
  removed({ object }) {
    state.objects.delete(object);
    if (!state.objects.size) newObject(1);
    if (!state.objects.has(state.selected)) select([...state.objects.keys()][0]);
    refresh();
  },
  loading: ({ tracker, engine }) => say(`loading ${tracker} (${engine})`),
  ended({ why, frames }) {
    state.running = false;
    state.clip.frames = frames ?? state.clip.frames;
    say(ENDS[why]);
    refresh();
  },
  length({ frames }) {
    pictures.refused();
    state.clip.frames = frames;
    go(frames - 1);
  },
  progress: ({ share }) => ($("export-bar").value = share),
  exported({ what }) {
    state.exporting = false;
    make("a", { href: `api/${state.hello.session}/${what}`, download: "" }).click();
    say("The file is ready.");
    refresh();
  },
  error({ about, text }) {
    if (about === "show") pictures.refused();
    if (about === "draw") state.unanswered -= 1;
    if (about === "track") state.running = false;
    if (about === "export") state.exporting = false;
    say("");
    complain(text);
    refresh();
  },
};

function lost() {
  $("connection").textContent = "not connected";
  state.running = state.exporting = false;
  say("");
  complain("The connection to the server is lost: is it still running? Reload the page.");
  refresh();
}

// Actions

function open(type, more = {}) {
  quiet();
  say("opening");
  send(type, more);
}

function track() {
  if (state.running) return send("pause");
  quiet();
  Object.assign(state, { running: true, holding: false });
  say("");
  refresh();
  return send("track", panel.choice);
}

function hold() {
  state.holding = true;
  if (state.running) send("pause");
}

// A person starts to draw: the frame stays.
function begin() {
  hold();
  pictures.stop();
}

const step = (by) => go((pictures.wanted ?? state.shown) + by);

function go(frame) {
  if (!state.clip) return;
  hold();
  pictures.want(clamp(frame, 0, Math.max(0, (state.clip.frames ?? 1) - 1)));
}

function select(number) {
  state.selected = number;
  refresh();
}

function add() {
  const number = state.hello.colours.findIndex((_, index) => !state.objects.has(index + 1)) + 1;
  if (number) select(newObject(number).number);
  $("stage").focus();
}

function draw(box) {
  quiet();
  hold();
  state.unanswered += 1;
  send("draw", { number: state.selected, frame: state.shown, box });
}

function exportFile(what) {
  quiet();
  $("export-bar").value = 0;
  state.exporting = true;
  say("writing the file");
  refresh();
  send("export", { what });
}

// Moves the selected box by keys, or changes its size; makes one where there is none.
function nudge(key, resize) {
  const object = state.objects.get(state.selected);
  const [width, height] = state.size;
  const [x, y, w, h] = boxAt(object, state.shown)?.box ?? [width * 0.375, height * 0.375, width / 4, height / 4];
  const [right, down] = STEP[key].map((value) => value * Math.max(1, Math.round(width / 320)));
  const box = resize
    ? [x, y, clamp(w + right, SMALLEST, width - x), clamp(h + down, SMALLEST, height - y)]
    : [clamp(x + right, 0, width - w), clamp(y + down, 0, height - h), w, h];
  object.drawn.set(state.shown, box); // the next key may come before the answer
  draw(box);
}

// The view

function newObject(number) {
  const made = { number, colour: state.hello.colours[number - 1], drawn: new Map(), results: new Map() };
  state.objects = new Map([...state.objects, [number, made]].sort(([a], [b]) => a - b));
  return made;
}

function boxAt({ drawn, results }, frame) {
  return drawn.has(frame) ? { box: drawn.get(frame), score: null, drawn: true } : (results.get(frame) ?? null);
}

function paint(frame, bitmap, size) {
  if (state.opening) {
    $("chooser").hidden = true;
    $("work").hidden = false;
    $("clip-name").textContent = state.clip.name;
    $("stage").focus();
    say("");
  }
  Object.assign(state, { shown: frame, size, opening: false });
  stage.show(bitmap, size);
  refresh();
}

function refresh() {
  if (!state.clip || state.opening) return;
  const { clip, shown, running, exporting } = state;
  const objects = [...state.objects.values()].map((each) => ({ ...each, at: boxAt(each, shown) }));
  const selected = objects.find(({ number }) => number === state.selected);
  const visible = objects.filter(({ at }) => at).sort((a, b) => (a === selected) - (b === selected));
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
  const tracked = objects.some(({ results }) => results.size);
  const drawn = objects.some((each) => each.drawn.size);
  const most = state.hello.colours.length;
  panel.update({ objects, selected: state.selected, most, busy: running || exporting, tracked });
  const total = Math.max(clip.frames ?? 1, shown + 1);
  timeline.update(total, shown, objects);
  $("export-bar").hidden = !exporting;
  $("track").textContent = running ? "Pause" : "Track";
  $("track").disabled = !drawn;
  $("track").classList.toggle("ready", drawn && !running && !tracked);
  $("hint").textContent = drawn || running ? "" : "Draw a box around what to follow";
  Object.assign($("scrub"), { max: total - 1, value: shown });
  showFacts(selected?.at, total);
}

function showFacts(found, total) {
  const { shown, fps, clip } = state;
  const facts = [`frame ${shown + 1} of ${total}`];
  if (typeof found?.score === "number") facts.push(`confidence ${found.score.toFixed(2)}`);
  if (found?.drawn) facts.push("drawn");
  if (fps !== null) facts.push(`${fps.toFixed(fps < 10 ? 1 : 0)} FPS`);
  $("facts").textContent = facts.join(", ");
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

const quiet = () => ($("alert").hidden = true);

$("track").addEventListener("click", track);
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("scrub").addEventListener("input", () => go($("scrub").valueAsNumber));
$("alert-close").addEventListener("click", quiet);
$("change").addEventListener("click", () => {
  hold();
  $("chooser").hidden = false;
  $("chooser").scrollIntoView();
  document.querySelector("#chooser button, #file")?.focus();
});
$("stage").addEventListener("keydown", (event) => {
  if (!(event.key in STEP) || !state.clip || isModified(event)) return;
  event.preventDefault();
  nudge(event.key, event.shiftKey);
});
document.addEventListener("keydown", (event) => {
  if (!state.clip || isTaken(event) || isModified(event)) return;
  if (event.key === " " && !$("track").disabled) track();
  else if (event.key === ",") step(-1);
  else if (event.key === ".") step(1);
  else if (state.objects.has(Number(event.key))) select(Number(event.key));
  else return;
  event.preventDefault();
});
