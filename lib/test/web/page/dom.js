// Short ways to the parts of the page.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const button = (text, act, kind = "") => make("button", { type: "button", textContent: text, className: kind, onclick: act });

export const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export const isModified = ({ ctrlKey, altKey, metaKey }) => ctrlKey || altKey || metaKey;

// Whether a key press belongs to the element with the focus: a field takes every key, a button those that press it.
export function isTaken({ target, key }) {
  const taking = key === " " || key === "Enter" ? "button, summary, label, input[type=radio], " : "";
  return target.closest(`${taking}select, textarea, input:not([type=range], [type=radio])`) !== null;
}

// Asks a question; the answer is whether the person agrees.
export function ask(question, agree) {
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const buttons = make("div", { className: "buttons" }, button("Keep", () => end(false)), button(agree, () => end(true), "primary"));
    const dialog = make("dialog", { oncancel: () => end(false) }, make("p", { textContent: question }), buttons);
    dialog.setAttribute("aria-label", question);
    document.body.append(dialog);
    dialog.showModal();
  });
}
