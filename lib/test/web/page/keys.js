// Keys.

import { $, isModified, isTaken } from "./dom.js";

const PLAIN = { ",": (act) => act.step(-1), ".": (act) => act.step(1), p: (act) => act.play(), 0: (act) => act.fit(), "[": (act) => act.range(0), "]": (act) => act.range(1) };

// `act` has a function for each action, and `isReady()`, whether a clip is open.
export function listen(act) {
  $("stage").addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow") || !act.isReady() || isModified(event)) return;
    event.preventDefault();
    act.nudge(event.key, event.shiftKey);
  });
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!act.isReady() || isTaken(event) || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
      if (key === "y" || event.shiftKey) act.redo();
      else act.undo();
    } else if (isModified(event)) return;
    else if (key === " ") act.grab(true); // it tracks when it is let go, unless the picture was dragged
    else if (key in PLAIN) PLAIN[key](act);
    else if (/^[1-9]$/.test(key)) act.select(Number(key));
    else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || !act.isReady() || isTaken(event)) return;
    if (!act.grab(false)) act.track();
  });
  window.addEventListener("blur", () => act.grab(false));
}
