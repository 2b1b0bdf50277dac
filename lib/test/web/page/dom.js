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

// Whether a key press belongs to a field or button that has the focus.
export const isTyping = ({ target }) => target.closest("input, select, textarea, button, summary, label") !== null;
