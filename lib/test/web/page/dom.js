// Short ways to what the page consists of.

export const $ = (id) => document.getElementById(id);

export function button(text, act, kind = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.className = kind;
  made.addEventListener("click", act);
  return made;
}

export function option(value, text, { disabled = false, title = "" } = {}) {
  const made = document.createElement("option");
  Object.assign(made, { value, textContent: text, disabled, title });
  return made;
}

// Whether a key press belongs to what has the focus: a field takes every key, a button those that press it.
export function isTaken({ target, key }) {
  const taking = key === " " || key === "Enter" ? "button, summary, label, input[type=radio], " : "";
  return target.closest(`${taking}select, textarea, input:not([type=range], [type=radio])`) !== null;
}
