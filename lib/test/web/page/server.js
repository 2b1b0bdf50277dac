// Messages to and from the server, and uploads.

const AGAIN = [500, 1000, 2000, 4000]; // ms until the next try

// Opens the connection, again whenever it is lost, and returns the function that sends a message, `send(type, more)`.
// `handle(message, picture)` takes a message, and the Blob of a JPEG file that may be empty. `lost()` is called when the
// connection is closed, and for messages that cannot be sent then.
export function connect(handle, lost) {
  const address = new URL("api/session", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.search = "";
  let [socket, tries] = [null, 0];
  const open = () => {
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("close", () => {
      if (!tries) lost();
      setTimeout(open, AGAIN[Math.min(tries, AGAIN.length - 1)]);
      tries += 1;
    });
    socket.addEventListener("message", ({ data }) => {
      tries = 0;
      const length = new DataView(data).getUint32(0, true);
      const message = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      handle(message, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
    });
  };
  open();
  return (type, more = {}) => (socket.readyState === WebSocket.OPEN ? socket.send(JSON.stringify({ type, ...more })) : lost());
}

// Sends one file; `progress(bytes)` is called on the way. Rejects with an Error in plain words, "" if it was aborted.
export function upload(address, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const fail = (text) => reject(new Error(text));
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded }) => progress(loaded);
    request.onload = () => (request.status === 200 ? resolve() : fail(request.response?.detail ?? `the upload failed (status ${request.status})`));
    request.onerror = () => fail("the upload was cut off: is the server still running, and is the file small enough for it?");
    request.onabort = () => fail("");
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
