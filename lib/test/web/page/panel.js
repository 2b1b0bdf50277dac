// The settings beside the picture: objects, the box in numbers, tracker and engine, downloads.

import { $, option } from "./dom.js";

const FIELDS = ["box-x", "box-y", "box-w", "box-h"];

export class Panel {
  // `act` has the functions select(number), add(), remove(), draw(box), exportFile(what).
  constructor(act) {
    this.act = act;
    $("add").addEventListener("click", () => act.add());
    $("remove").addEventListener("click", () => act.remove());
    $("box").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const each of document.querySelectorAll(".download")) {
      each.addEventListener("click", () => act.exportFile(each.dataset.what));
    }
    $("tracker").addEventListener("change", () => this.fitEngine());
  }

  // Trackers and engines as the server offers them.
  offer({ trackers, engines, engine }) {
    this.trackers = new Map(trackers.map((each) => [each.key, each]));
    $("tracker").replaceChildren(
      ...trackers.map(({ key, missing }) => option(key, missing ? `${key} (no weights here)` : key, { title: missing })),
    );
    $("engine").replaceChildren(
      ...engines.map(({ name, missing }) =>
        option(name, missing ? `${name} (not installed)` : name, { disabled: missing !== "", title: missing }),
      ),
    );
    $("engine").value = engine;
    this.fitEngine();
  }

  get choice() {
    return { key: $("tracker").value, engine: $("engine").value };
  }

  fitEngine() {
    $("engine").disabled = !this.trackers.get($("tracker").value)?.engine;
  }

  submit() {
    const box = FIELDS.map((id) => $(id).valueAsNumber);
    if (box.some(Number.isNaN)) this.act.complain("Type all four numbers of the box: x, y, width, height.");
    else this.act.draw(box);
  }

  // `objects`: {number, colour, at: {box, score} or null}; `selected`: a number; `busy`: no download now.
  update({ objects, selected, most, busy, tracked }) {
    this.showObjects(objects, selected);
    $("add").disabled = objects.length >= most;
    $("remove").disabled = objects.length < 2 && !objects.some(({ drawn }) => drawn);
    for (const each of document.querySelectorAll(".download")) each.disabled = !tracked || busy;
    const box = objects.find(({ number }) => number === selected)?.at?.box;
    FIELDS.forEach((id, index) => {
      if (document.activeElement !== $(id)) $(id).value = box ? Math.round(box[index] * 10) / 10 : "";
    });
  }

  showObjects(objects, selected) {
    const list = $("objects");
    const numbers = objects.map(({ number }) => number).join();
    if (list.dataset.numbers !== numbers) {
      list.dataset.numbers = numbers;
      list.replaceChildren(...objects.map((each) => this.row(each)));
    }
    for (const [index, { number, at }] of objects.entries()) {
      const row = list.children[index];
      row.querySelector("input").checked = number === selected;
      row.lastElementChild.textContent = at === null ? "no box here" : at.score === null ? "" : at.score.toFixed(2);
    }
  }

  row({ number, colour }) {
    const row = document.createElement("label");
    row.className = "object";
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "object", value: number });
    input.addEventListener("change", () => this.act.select(number));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    const name = document.createElement("span");
    name.textContent = `Object ${number}`;
    row.append(input, swatch, name, document.createElement("span"));
    return row;
  }
}
