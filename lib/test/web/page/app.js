// The page: its state, the answers of the server, and the actions of the person.

import { Chooser } from "./chooser.js";
import { $, ask, clamp, make } from "./dom.js";
import { Keeper, keyOf } from "./keeper.js";
import { listen } from "./keys.js";
import { hasWork, nudged, pack, tracked, unpack } from "./objects.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { connect } from "./server.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const SURE_FROM = 0.5; // as in the demo of the command line
const MANY = 20; // tracked frames: they are not removed without a question
const PART = 48 * 1024; // characters of the work in a message: the server takes 64 KiB at once
const ENDS = {
  end: "Tracked to the end.",
  range: "The range is tracked.",
  paused: "Paused.",
  complete: "Everything is tracked. To correct it, go to a frame, draw the box again, and track.",
};
const LOST = "The connection to the server is lost: is it still running? Your work is kept, and comes back with it.";

const state = {
  hello: null, // null while there is no connection
  clip: null, // {name, frames, fps, width, height, truth}
  source: null, // the message that opened it
  asked: null, // the one that is on its way
  waiting: false, // it is not open yet: what is done now would be done to it
  opening: false, // its first picture has yet to come
  edited: false, // since it was opened
  resuming: false, // the connection came back: the page's work holds
  objects: new Map(),
  selected: 1,
  shown: 0, // the frame on the stage
  size: [1, 1], // of that frame
  fps: null,
  running: false,
  exporting: false,
  unanswered: 0, // boxes on their way to the server
  holding: false, // the stage stays where it is although frames arrive
  undo: false,
  redo: false,
};

const pictures = new Pictures({ ask: (frame) => send("show", { frame }), paint });
const player = new Player({ show: (frame) => pictures.want(frame), isBusy: () => pictures.isBusy, changed: refresh });
const stage = new Stage($("stage"), { drawn: draw, begin, pick, zoomed });
const timeline = new Timeline($("timeline"), go);
const panel = new Panel({ select, draw, remove, mark, exportFile, refresh, track, change, complain });
const chooser = new Chooser({ open, browse: (path) => send("browse", { path }), say, complain });
const keeper = new Keeper(() => state.clip && { name: state.clip.name, source: state.source, objects: pack(state.objects) }, () => {
  complain("This browser cannot keep so much work: download the boxes before you close the page.");
});
const send = connect((message, picture) => answers[message.type](message, picture), lost);

const answers = {
  hello(message) {
    state.hello = message;
    chooser.offer(message);
    panel.offer(message);
    $("connection").textContent = "";
    if (state.clip) {
      quiet();
      state.resuming = true;
      if (state.source.type === "open_upload") chooser.send(chooser.files);
      else open(state.source.type, state.source.more);
      refresh();
    } else { // after a reload the same clip, else an offer of the last one
      const { last, isSame } = keeper.last();
      chooser.offerLast(last);
      if (isSame && last.source.type !== "open_upload") open(last.source.type, last.source.more);
    }
  },
  listed: (message) => chooser.list(message),
  opened(message) {
    const { work, box, note } = message;
    const { colours } = state.hello;
    keeper.keep(); // of the clip before
    const resuming = state.resuming && keyOf(message, state.asked) === keeper.key;
    const ours = state.edited || !hasWork(work.objects); // else another page may have gone on
    Object.assign(state, { clip: message, source: state.asked, fps: null, running: false, exporting: false, resuming: false, unanswered: 0 });
    Object.assign(state, { waiting: false, edited: resuming && ours });
    keeper.open(message, state.source);
    if (note) complain(note);
    if (resuming) {
      pictures.answered();
      say("");
      return ours ? restore(pack(state.objects)) : answers.work(work);
    }
    pictures.clear();
    Object.assign(state, { opening: true, shown: 0, holding: true, undo: work.undo, redo: work.redo });
    timeline.zoom(Infinity);
    stage.zoom(0, 0, 0);
    panel.clearRange();
    pictures.wanted = 0; // it follows
    const kept = hasWork(work.objects) ? null : keeper.found()?.objects;
    const back = kept && hasWork(kept);
    state.objects = unpack(back ? kept : work.objects, colours);
    panel.choose([...state.objects.values()].find(({ choice }) => choice)?.choice);
    select([...state.objects.keys()][0]);
    if (back) restore(kept);
    else if (box && !hasWork(work.objects)) draw(box);
    return undefined;
  },
  work({ objects, undo, redo, selected = state.selected }) {
    Object.assign(state, { objects: unpack(objects, state.hello.colours), undo, redo });
    select(state.objects.has(selected) ? selected : [...state.objects.keys()][0]);
    keeper.soon();
  },
  picture({ frame, width, height }, picture) {
    pictures.keep(frame, picture, [width, height]);
    pictures.answered();
  },
  frame({ frame, width, height, objects, fps }, picture) {
    pictures.keep(frame, picture, [width, height]);
    for (const { object, ...found } of objects) state.objects.get(object)?.boxes.set(frame, found);
    state.fps = fps;
    say(""); // it is loaded
    keeper.soon();
    if (state.holding) refresh();
    else pictures.want(frame);
  },
  drawn({ object, frame, box, gone: [first, last] }) {
    state.unanswered -= 1;
    const { boxes, absent } = state.objects.get(object) ?? {};
    if (!boxes) return;
    for (const [index, { drawn }] of [...boxes]) if (!drawn && index >= first && index <= last) boxes.delete(index);
    absent.delete(frame);
    // Else a key has moved it since.
    if (!state.unanswered || !boxes.has(frame)) boxes.set(frame, { box, score: null, drawn: true });
    Object.assign(state, { undo: true, redo: false });
    keeper.soon();
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
  note: ({ text }) => complain(text),
  error({ about, text }) {
    if (about === "show") pictures.refused();
    if (about === "draw") state.unanswered -= 1;
    if (about === "track") state.running = false;
    if (about === "export") state.exporting = false;
    if (about.startsWith("open_")) Object.assign(state, { resuming: false, waiting: false });
    player.stop();
    say("");
    complain(text);
    refresh();
  },
};

function lost() {
  keeper.keep();
  $("connection").textContent = "not connected";
  Object.assign(state, { hello: null, running: false, exporting: false, waiting: false });
  player.stop();
  pictures.refused();
  say("");
  complain(LOST);
  refresh();
}

function restore(objects) {
  const text = JSON.stringify({ objects });
  for (let at = 0; at < text.length; at += PART) send("restore", { part: text.slice(at, at + PART), more: at + PART < text.length });
  refresh();
}

// Actions

function open(type, more = {}) {
  quiet();
  say("opening");
  keeper.keep();
  Object.assign(state, { asked: { type, more }, waiting: true });
  send(type, more);
  refresh();
}

const busy = () => !state.hello || state.waiting;

// Sends an action that changes the work.
function change(type, more = {}) {
  if (busy()) return;
  quiet();
  hold();
  state.edited = true;
  send(type, more);
}

// Tracks all objects, or one in a range: {number, span, backwards}.
function track(range = {}) {
  if (busy()) return;
  quiet();
  player.stop();
  Object.assign(state, { running: true, holding: false, undo: true, redo: false, edited: true });
  say("");
  refresh();
  send("track", { ...panel.choice, ...range });
}

function hold() {
  state.holding = true;
  player.stop();
  if (state.running) send("pause");
}

// A person starts to draw: the frame stays.
function begin() {
  hold();
  pictures.stop();
}

// A click on boxes, the smallest first: selects one.
function pick(boxes) {
  if (boxes.length && !boxes.some(({ number }) => number === state.selected)) select(boxes[0].number);
}

function zoomed(scale) {
  $("fit").hidden = scale < 1.01;
  $("fit").textContent = `${scale.toFixed(1)}x: show all`;
}

const step = (by) => go((pictures.wanted ?? state.shown) + by);
const lastFrame = () => Math.max(0, (state.clip.frames ?? 1) - 1, state.shown);

function go(frame) {
  if (!state.clip) return;
  hold();
  pictures.want(clamp(frame, 0, lastFrame()));
}

function play() {
  if (player.playing) return player.stop();
  hold();
  return player.start(state.shown >= lastFrame() ? -1 : state.shown, lastFrame(), rate());
}

const rate = () => state.clip.fps * Number($("speed").value);

function select(number) {
  state.selected = number;
  refresh();
}

async function remove() {
  quiet();
  const each = state.objects.get(state.selected);
  const count = tracked(each);
  const name = each.name || `object ${each.number}`;
  if (count > MANY && !(await ask(`Remove ${name} with its ${count} tracked frames?`, "Remove"))) return;
  change("remove", { number: each.number });
}

async function mark(first, last, absent) {
  quiet();
  const each = state.objects.get(state.selected);
  const count = tracked(each, first, last);
  if (count > MANY && !(await ask(`Remove ${count} tracked frames of this range?`, "Remove"))) return;
  change("mark", { number: each.number, first, last, absent });
}

function draw(box) {
  if (busy()) return;
  quiet();
  hold();
  Object.assign(state, { unanswered: state.unanswered + 1, edited: true });
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
  if (busy()) return;
  const { boxes } = state.objects.get(state.selected);
  const box = nudged(boxes.get(state.shown)?.box, key, resize, state.size);
  boxes.set(state.shown, { box, score: null, drawn: true }); // the next key may come before the answer
  draw(box);
}

// The view

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
  const objects = [...state.objects.values()].map((each) => ({ ...each, at: each.boxes.get(shown) ?? null }));
  const selected = objects.find(({ number }) => number === state.selected);
  const visible = objects.filter(({ at }) => at).sort((a, b) => (a === selected) - (b === selected));
  const boxes = visible.map(({ number, name, colour, at: { box, score } }) => ({
    number,
    box,
    colour,
    selected: number === state.selected,
    unsure: score !== null && score < SURE_FROM,
    label: name || (objects.length > 1 ? `${number}` : ""),
  }));
  stage.setBoxes(boxes, selected?.colour, !running && !player.playing);
  const drawn = objects.some((each) => [...each.boxes.values()].some((found) => found.drawn));
  const any = objects.some((each) => each.boxes.size);
  const total = Math.max(clip.frames ?? 1, shown + 1);
  panel.update({ objects, selected, shown, total, truth: clip.truth, off: busy(), running, exporting, any });
  timeline.update(total, shown, clip.fps, objects, panel.range);
  $("export-bar").hidden = !exporting;
  $("track").textContent = running ? "Pause" : "Track";
  $("track").disabled = !drawn || busy();
  $("undo").disabled = !state.undo || busy();
  $("redo").disabled = !state.redo || busy();
  $("play").textContent = player.playing ? "\u23f8" : "\u25b6";
  $("play").setAttribute("aria-label", player.playing ? "Stop" : "Play");
  $("hint").textContent = drawn || running ? "" : "Draw a box around what to follow";
  Object.assign($("scrub"), { max: total - 1, value: shown });
  panel.showFacts(clip, state.fps);
}

function say(text) {
  $("status").textContent = $("chooser-status").textContent = text;
}

function complain(text) {
  const sentence = text.replace(/^[a-z]+ /, (word) => word.charAt(0).toUpperCase() + word.slice(1)); // but no file's name
  $("alert-text").textContent = sentence + (/[.!?]$/.test(sentence) ? "" : ".");
  $("alert").hidden = false;
}

const quiet = () => ($("alert").hidden = true);

const clicks = {
  track: () => (state.running ? send("pause") : track()),
  play,
  back: () => step(-1),
  forward: () => step(1),
  undo: () => change("undo", { again: false }),
  redo: () => change("undo", { again: true }),
  fit: () => stage.zoom(0, 0, 0),
  closer: () => timeline.zoom(0.5),
  wider: () => timeline.zoom(2),
  "alert-close": quiet,
  change() {
    hold();
    $("chooser").hidden = false;
    $("chooser").scrollIntoView();
    document.querySelector("#chooser button, #file")?.focus();
  },
};
for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
$("scrub").addEventListener("input", () => go($("scrub").valueAsNumber));
$("speed").addEventListener("change", () => player.playing && player.speed(rate()));
window.addEventListener("pagehide", () => keeper.keep());
listen({
  isReady: () => state.clip !== null,
  grab: (held) => stage.grab(held),
  track: () => $("track").disabled || clicks.track(),
  nudge,
  step,
  play,
  undo: clicks.undo,
  redo: clicks.redo,
  fit: clicks.fit,
  range: (end) => panel.setEnd(end),
  select: (number) => state.objects.has(number) && select(number),
});
