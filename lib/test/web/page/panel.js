// The settings beside the picture: objects, the box in numbers, tracker and engine, downloads.

import { $, make } from "./dom.js";

const FIELDS = ["box-x", "box-y", "box-w", "box-h"];
const downloads = document.querySelectorAll(".download");

export class Panel {
  // `act` has the functions select(number), add(), remove(), draw(box), complain(text), exportFile(what).
  constructor(act) {
    this.act = act;
    $("add").addEventListener("click", act.add);
    $("remove").addEventListener("click", act.remove);
    $("box").addEventListener("submit", (event) => {
      event.preventDefault();
      const box = FIELDS.map((id) => $(id).valueAsNumber);
      if (box.some(Number.isNaN)) act.complain("Type all four numbers of the box: x, y, width, height.");
      else act.draw(box);
    });
    for (const each of downloads) each.addEventListener("click", () => act.exportFile(each.dataset.what));
  }

  // Trackers and engines as the server offers them.
  offer({ trackers, engines, engine }) {
    const options = (values) => values.map((value) => make("option", { value, textContent: value }));
    $("tracker").replaceChildren(...options(trackers));
    $("engine").replaceChildren(...options(engines));
    $("engine").value = engine;
  }

  get choice() {
    return { key: $("tracker").value, engine: $("engine").value };
  }

  // `objects`: {number, colour, drawn, at: {box, score} or null}; `selected`: a number; `busy`: no download now.
  update({ objects, selected, most, busy, tracked }) {
    this.showObjects(objects, selected);
    $("add").disabled = objects.length >= most;
    $("remove").disabled = objects.length < 2 && !objects.some(({ drawn }) => drawn.size);
    for (const each of downloads) each.disabled = !tracked || busy;
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
    const input = make("input", { type: "radio", name: "object", value: number, onchange: () => this.act.select(number) });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour;
    return make("label", { className: "object" }, input, swatch, make("span", { textContent: `Object ${number}` }), make("span"));
  }
}
