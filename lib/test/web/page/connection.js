// The session's WebSocket, and uploads.

export class Connection {
  // `handle` takes messages; `picture` is the Blob that came with one, or null. `lost` is called when it is closed, and
  // again for what cannot be sent any more.
  constructor(handle, lost) {
    const address = new URL("api/session", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = "";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") return handle(JSON.parse(data), null);
      const length = new DataView(data).getUint32(0, true);
      const message = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      return handle(message, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
    });
    this.lost = lost;
    this.socket.addEventListener("close", lost);
  }

  send(type, more = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...more }));
    else this.lost();
  }
}

// Uploads files one after the other; `progress` is told the share that is done. `cancel()` ends it.
export class Upload {
  constructor(session, files, progress) {
    this.session = session;
    this.files = files;
    this.progress = progress;
    this.total = Math.max(1, files.reduce((sum, file) => sum + file.size, 0));
    this.done = 0;
    this.request = null;
    this.cancelled = false;
  }

  // Resolves when all is there; rejects with an Error in plain words.
  async run() {
    for (const [index, file] of this.files.entries()) {
      await this.one(file, index > 0);
      this.done += file.size;
    }
  }

  cancel() {
    this.cancelled = true;
    this.request?.abort();
  }

  one(file, more) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.request = request;
      const query = new URLSearchParams({ name: file.name, more });
      request.open("POST", `api/sessions/${this.session}/upload?${query}`);
      request.upload.addEventListener("progress", (event) => this.progress((this.done + event.loaded) / this.total));
      request.addEventListener("load", () => {
        if (request.status === 200) return resolve();
        return reject(new Error(reason(request)));
      });
      const broken = () => reject(new Error(this.cancelled ? "" : "the upload was cut off: is the server still running, and is the file small enough for it?"));
      request.addEventListener("error", broken);
      request.addEventListener("abort", broken);
      request.send(file);
    });
  }
}

function reason(request) {
  try {
    return JSON.parse(request.responseText).error ?? "";
  } catch {
    return `the upload failed (status ${request.status})`;
  }
}
