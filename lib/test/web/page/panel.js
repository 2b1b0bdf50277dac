// The settings beside the picture: objects, the box in numbers, a range of frames, tracker and engine, downloads.

import { $, clamp, make } from "./dom.js";

const FIELDS = ["box-x", "box-y", "box-w", "box-h"];
const ENDS = ["range-first", "range-last"];
const downloads = document.querySelectorAll(".download");

export class Panel {
  // `act` has the functions select(number), draw(box), remove(), mark(first, last, absent), complain(text), refresh(),
  // track({number, span, backwards}), exportFile(what), and change(type, more) for the server's other commands.
  constructor(act) {
    Object.assign(this, { act, shown: 0, total: 1, selected: null });
    const click = (id, run) => $(id).addEventListener("click", run);
    click("add", () => {
      act.change("add");
      $("stage").focus({ preventScroll: true });
    });
    click("remove", act.remove);
    click("truth", () => act.change("truth", { number: this.selected.number }));
    click("absent", () => this.markRange(true));
    click("clear", () => this.markRange(false));
    for (const [id, backwards] of [["track-range", false], ["track-back", true]]) {
      click(id, () => act.track({ number: this.selected.number, span: this.range, backwards }));
    }
    click("from-here", () => this.setEnd(0));
    click("to-here", () => this.setEnd(1));
    click("range-none", () => this.clearRange());
    for (const id of ENDS) $(id).addEventListener("input", act.refresh);
    $("name").addEventListener("change", () => act.change("rename", { number: this.selected.number, name: $("name").value }));
    $("box").addEventListener("submit", (event) => {
      event.preventDefault();
      const box = FIELDS.map((id) => $(id).valueAsNumber);
      if (box.some(Number.isNaN)) act.complain("Type all four numbers of the box: x, y, width, height.");
      else act.draw(box);
    });
    for (const each of downloads) each.addEventListener("click", () => act.exportFile(each.dataset.what));
  }

  // Trackers and engines as the server offers them; a choice that was made stays.
  offer({ trackers, engines, engine, missing }) {
    const before = this.choice;
    const options = (values) => values.map((value) => make("option", { value, textContent: value }));
    $("tracker").replaceChildren(...options(trackers));
    $("engine").replaceChildren(...options(engines));
    $("tracker").value = trackers.includes(before.key) ? before.key : trackers[0];
    $("engine").value = engines.includes(before.engine) ? before.engine : engine;
    $("missing").hidden = !missing.length;
    const entries = missing.flatMap(({ tracker, file }) => [make("dt", { textContent: tracker }), make("dd", {}, make("code", { textContent: file }))]);
    $("missing-list").replaceChildren(...entries);
  }

  // What the objects were tracked with, where it is offered: another choice would begin anew.
  choose([key, engine] = []) {
    const offered = (id, value) => [...$(id).options].some((option) => option.value === value);
    if (!offered("tracker", key) || !offered("engine", engine)) return;
    Object.assign($("tracker"), { value: key });
    Object.assign($("engine"), { value: engine });
  }

  get choice() {
    return { key: $("tracker").value, engine: $("engine").value };
  }

  // First and last frame of the range, from 0; null where there is no end.
  get range() {
    const ends = ENDS.map((id) => $(id).valueAsNumber).map((end) => (Number.isNaN(end) ? null : clamp(Math.round(end), 1, this.total) - 1));
    return ends.includes(null) ? ends : ends.sort((a, b) => a - b);
  }

  setEnd(end) {
    $(ENDS[end]).value = this.shown + 1;
    this.act.refresh();
  }

  clearRange() {
    for (const id of ENDS) $(id).value = "";
    this.act.refresh();
  }

  // Without a range it is this frame.
  markRange(absent) {
    const isEmpty = this.range.every((end) => end === null);
    const [first, last] = isEmpty ? [this.shown, this.shown] : [this.range[0] ?? 0, this.range[1] ?? this.total - 1];
    this.act.mark(first, last, absent);
  }

  // `objects`: {number, name, colour, boxes, at: {box, score} or null}; `selected`: one of them; `off`: no connection;
  // `any`: there is something to download.
  update({ objects, selected, shown, total, truth, off, running, exporting, any }) {
    Object.assign(this, { shown, total, selected });
    this.showObjects(objects, selected, shown);
    const isDrawn = [...selected.boxes.values()].some(({ drawn }) => drawn);
    const disabled = { add: objects.length >= 6, remove: objects.length < 2 && !selected.boxes.size, truth: false, absent: false, clear: false };
    Object.assign(disabled, { name: false, "track-range": !isDrawn || running, "track-back": !isDrawn || running });
    for (const [id, isOff] of Object.entries(disabled)) $(id).disabled = isOff || off;
    $("truth").hidden = !truth;
    $("truth").textContent = `Open ${truth}`;
    for (const each of downloads) each.disabled = !any || off || running || exporting;
    for (const id of ENDS) $(id).max = total;
    $("range-none").hidden = this.range.every((end) => end === null);
    const box = selected.at?.box;
    FIELDS.forEach((id, index) => {
      if (document.activeElement !== $(id)) $(id).value = box ? Math.round(box[index] * 10) / 10 : "";
    });
    if (document.activeElement !== $("name")) $("name").value = selected.name;
  }

  // The line below the picture, after `update`; `fps`: frames that are tracked in a second, or null.
  showFacts(clip, fps) {
    const { at: found, absent } = this.selected;
    const facts = [`frame ${this.shown + 1} of ${this.total}`];
    if (typeof found?.score === "number") facts.push(`confidence ${found.score.toFixed(2)}`);
    if (found?.drawn) facts.push("drawn");
    if (absent.has(this.shown)) facts.push("absent");
    if (fps !== null) facts.push(`${fps.toFixed(fps < 10 ? 1 : 0)} FPS`);
    $("facts").textContent = facts.join(", ");
    $("scrub").setAttribute("aria-valuetext", facts.join(", "));
    $("clip-facts").textContent = `${clip.width}x${clip.height}, ${clip.frames ?? "?"} frames, ${Math.round(clip.fps)} a second`;
  }

  showObjects(objects, selected, shown) {
    const list = $("objects");
    const names = objects.map(({ number, name }) => `${number} ${name}`).join("\n");
    if (list.dataset.names !== names) {
      list.dataset.names = names;
      list.replaceChildren(...objects.map((each) => this.row(each)));
    }
    for (const [index, { number, at, absent }] of objects.entries()) {
      const row = list.children[index];
      row.querySelector("input").checked = number === selected.number;
      const score = at?.score === null ? "" : at?.score.toFixed(2);
      row.lastElementChild.textContent = score ?? (absent.has(shown) ? "absent" : "no box here");
    }
  }

  row({ number, name, colour }) {
    const input = make("input", { type: "radio", name: "object", value: number, onchange: () => this.act.select(number) });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour;
    return make("label", { className: "object" }, input, swatch, make("span", { textContent: name || `Object ${number}` }), make("span"));
  }
}
