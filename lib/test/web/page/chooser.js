// Choosing a clip: a sample, an upload, or something on the server.

import { Upload } from "./connection.js";
import { $, button } from "./dom.js";

export class Chooser {
  // `open(type, more)` asks for a clip; `say(text)` and `complain(text)` tell the person something.
  constructor({ open, say, complain }) {
    Object.assign(this, { open, say, complain, upload: null });
    $("file").addEventListener("change", () => {
      const files = [...$("file").files];
      $("file").value = ""; // the same file may be chosen again
      this.send(files);
    });
    $("upload-cancel").addEventListener("click", () => this.upload?.cancel());
    this.acceptDrops($("drop"));
  }

  // What the server offers.
  offer(hello) {
    this.hello = hello;
    $("samples").replaceChildren(
      ...hello.samples.map(({ name, shows }) => button(`${name}: ${shows}`, () => this.open("open_sample", { name }))),
    );
    $("sample-choice").hidden = !hello.samples.length;
    const { upload_mb: size, frames } = hello.limits;
    $("upload-hint").textContent = `Or drop it here. Up to ${size} MB and ${frames.toLocaleString("en")} frames. It stays on this server, and is removed when you close the page.`;
    $("media-choice").hidden = !hello.media;
    if (hello.media) this.list("");
  }

  async send(files) {
    if (!files.length || this.upload) return;
    const { image } = this.hello.suffixes;
    const isImage = ({ name }) => image.some((suffix) => name.toLowerCase().endsWith(suffix));
    const pictures = files.filter(isImage).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const chosen = pictures.length === files.length ? pictures : files;
    if (chosen.length > 1 && chosen !== pictures) return this.complain("Choose one video, or the pictures of one sequence.");
    if (chosen.length === 1 && chosen === pictures) {
      return this.complain("That is a single picture: choose a video, or all pictures of a sequence together.");
    }
    const size = chosen.reduce((sum, file) => sum + file.size, 0);
    if (size > this.hello.limits.upload_mb * 2 ** 20) {
      return this.complain(`The file is too large (${Math.ceil(size / 2 ** 20)} MB): at most ${this.hello.limits.upload_mb} MB are taken here.`);
    }
    if (size === 0) return this.complain("The file is empty.");
    return this.run(chosen);
  }

  async run(files) {
    this.upload = new Upload(this.hello.session, files, (share) => ($("upload-bar").value = share));
    $("upload-progress").hidden = false;
    this.say("uploading");
    try {
      await this.upload.run();
      this.open("open_upload");
    } catch (error) {
      this.say("");
      if (error.message) this.complain(error.message);
    } finally {
      this.upload = null;
      $("upload-progress").hidden = true;
      $("upload-bar").value = 0;
    }
  }

  acceptDrops(area) {
    for (const type of ["dragenter", "dragover"]) {
      document.addEventListener(type, (event) => {
        event.preventDefault();
        area.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => event.relatedTarget === null && area.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      area.classList.remove("over");
      this.send([...event.dataTransfer.files]);
    });
  }

  async ask(path) {
    try {
      const response = await fetch(`api/sessions/${this.hello.session}/media?${new URLSearchParams({ path })}`);
      return { ok: response.ok, answer: await response.json() };
    } catch {
      return { ok: false, answer: { error: "the server does not answer: is it still running?" } };
    }
  }

  // Shows a directory of the server.
  async list(path) {
    const { ok, answer } = await this.ask(path);
    if (!ok) return this.complain(answer.error);
    const rows = answer.entries.map(({ name, path: inner, kind }) =>
      kind === "folder" ? button(`${name}/`, () => this.list(inner)) : button(name, () => this.open("open_media", { path: inner })),
    );
    if (answer.frames) rows.unshift(button(`Open these ${answer.frames} pictures`, () => this.open("open_media", { path }), "primary"));
    if (path) rows.unshift(button("up", () => this.list(path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "")));
    $("media-path").textContent = answer.more ? "Only the first entries are listed." : answer.entries.length || answer.frames ? "" : "Nothing to open here.";
    $("media").replaceChildren(
      ...rows.map((row) => {
        const item = document.createElement("li");
        item.append(row);
        return item;
      }),
    );
    return undefined;
  }
}
