// Choosing a clip: a sample, an upload, or a clip on the server.

import { $, button, make } from "./dom.js";
import { upload } from "./server.js";

export class Chooser {
  // `open(type, more)` asks for a clip, `browse(path)` for a directory; `say(text)` and `complain(text)` tell the person.
  constructor(act) {
    this.act = act;
    this.sending = null; // an AbortController
    this.files = []; // of the last upload
    $("file").addEventListener("change", () => {
      const files = [...$("file").files];
      $("file").value = ""; // the same file may be chosen again
      this.send(files);
    });
    $("upload-cancel").addEventListener("click", () => this.sending?.abort());
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.send([...event.dataTransfer.files]);
    });
  }

  // The clips that the server offers.
  offer(hello) {
    this.hello = hello;
    const open = ({ name, shows }) => button(`${name}: ${shows}`, () => this.act.open("open_sample", { name }));
    $("samples").replaceChildren(...hello.samples.map(open));
    $("sample-choice").hidden = !hello.samples.length;
    const { upload_mb: size, frames } = hello.limits;
    $("upload-hint").textContent = `Or drop it here. Up to ${size} MB and ${frames.toLocaleString("en")} frames. It stays on this server, and is removed when you close the page.`;
    $("media-choice").hidden = !hello.media.length;
    if (hello.media.length) this.act.browse("");
  }

  // The work that was kept last: {name, source, objects}, or null.
  offerLast(last) {
    $("last").hidden = !last;
    if (!last) return;
    const { name, source, objects } = last;
    const boxes = objects.reduce((sum, each) => sum + each.boxes.length, 0);
    const isUpload = source.type === "open_upload";
    $("last-hint").textContent = `${boxes} boxes on ${name} are kept in this browser.${isUpload ? " Choose the file again, and they come back." : ""}`;
    $("last-buttons").replaceChildren(...(isUpload ? [] : [button(`Go on with ${name}`, () => this.act.open(source.type, source.more), "primary")]));
  }

  // A directory of the server.
  list({ path, frames, entries }) {
    const { open, browse } = this.act;
    const rows = entries.map(({ name, path: inner, kind }) =>
      kind === "folder" ? button(`${name}/`, () => browse(inner)) : button(name, () => open("open_media", { path: inner })),
    );
    if (frames) rows.unshift(button(`Open these ${frames} pictures`, () => open("open_media", { path }), "primary"));
    if (path) rows.unshift(button("up", () => browse(path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "")));
    const [number, ...below] = path.split("/");
    const place = path ? [this.hello.media[number], ...below].join("/") : "";
    $("media-path").textContent = entries.length || frames ? place : `Nothing to open in ${place}.`;
    $("media").replaceChildren(...rows.map((row) => make("li", {}, row)));
  }

  async send(files) {
    if (!files.length || this.sending) return;
    const { limits, session } = this.hello;
    const pictures = files.filter(({ name }) => limits.suffixes.some((suffix) => name.toLowerCase().endsWith(suffix)));
    const total = files.reduce((sum, { size }) => sum + size, 0);
    const wrong =
      (files.length > 1 && pictures.length < files.length && "Choose one video, or the pictures of one sequence.") ||
      (files.length === 1 && pictures.length && "That is a single picture: choose a video, or all pictures of a sequence together.") ||
      (total > limits.upload_mb * 2 ** 20 && `The file is too large (${Math.ceil(total / 2 ** 20)} MB): at most ${limits.upload_mb} MB are taken here.`) ||
      (!total && "The file is empty.");
    if (wrong) return this.act.complain(wrong);
    this.files = files;
    files.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    this.sending = new AbortController();
    $("upload-progress").hidden = false;
    this.act.say("uploading");
    let done = 0;
    try {
      for (const [index, file] of files.entries()) {
        const address = `api/${session}/upload?${new URLSearchParams({ name: file.name, more: index > 0 })}`;
        await upload(address, file, (bytes) => ($("upload-bar").value = (done + bytes) / total), this.sending.signal);
        done += file.size;
      }
      this.act.open("open_upload");
    } catch ({ message }) {
      this.act.say("");
      if (message) this.act.complain(message);
    }
    this.sending = null;
    $("upload-progress").hidden = true;
    $("upload-bar").value = 0;
    return undefined;
  }
}
