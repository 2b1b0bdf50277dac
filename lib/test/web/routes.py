"""What pages ask for: the page itself, a WebSocket for each session, uploads and downloads."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from lib.data.samples import PREFIX, find_sample
from lib.test.web import protocol
from lib.test.web.downloads import DOWNLOADS, file_name
from lib.test.web.limits import Limits
from lib.test.web.service import Service
from lib.test.web.sessions import Session
from lib.utils.errors import UserError

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_BLOCK = 1 << 20  # bytes of an upload that are written at once
_DRAINED = 32 << 20  # bytes of a refused upload that are still let come
_SECONDS_TO_SAY = 2
_TRY_LATER, _CLOSED = 1013, 1000  # codes of closed WebSockets


def add_routes(app: FastAPI, service: Service) -> None:
    """Add all routes to an application."""
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
        if service.sessions.get(session) is None:
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
            session.put(service.hello(session))
            await _serve(socket, session, service)
        finally:
            service.end(session)


async def _serve(socket: WebSocket, session: Session, service: Service) -> None:
    """Run a session until its page is closed, or has to be."""
    tasks = [
        asyncio.create_task(_listen(socket, session, service)),
        asyncio.create_task(_speak(socket, session)),
        asyncio.create_task(_watch(session, service.limits)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # an error of ours is not hidden
    except WebSocketDisconnect:
        return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # It may take nothing, or be gone.
    with contextlib.suppress(asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
        await asyncio.wait_for(_say_goodbye(socket, session.reason), _SECONDS_TO_SAY)


async def _say_goodbye(socket: WebSocket, reason: str) -> None:
    await socket.send_json({"type": "closed", "text": reason})
    await socket.close(_CLOSED)


async def _listen(socket: WebSocket, session: Session, service: Service) -> None:
    """Pass on what the page says, no faster than it takes the answers."""
    while True:
        event = await socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", _CLOSED))
        session.hear()
        await session.room()
        try:
            message = protocol.MESSAGES.validate_json(event.get("text") or "")
            if message.type.startswith("open"):
                # Beside the loop: a directory may lie on a slow disk.
                name, arguments = "open", await asyncio.to_thread(_to_open, message, session, service)
            else:
                name, arguments = message.type, message.model_dump(exclude={"type"})
        except (ValidationError, UserError) as error:
            session.commands.release()
            text = str(error) if isinstance(error, UserError) else "the server does not understand the page: reload it"
            session.put({"type": "error", "about": "", "text": text})
            continue
        service.process.send(session.name, name, **arguments)


async def _speak(socket: WebSocket, session: Session) -> None:
    """Send the page what waits for it; a picture follows its message in the same binary frame."""
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
        try:
            await asyncio.wait_for(session.closing.wait(), left)
        except asyncio.TimeoutError:
            continue


def _to_open(
    message: protocol.OpenSample | protocol.OpenMedia | protocol.OpenUpload, session: Session, service: Service
) -> dict:
    """What the process that tracks is to open: only here a name becomes a path."""
    if isinstance(message, protocol.OpenSample):
        path, sample = find_sample(PREFIX + message.name)
        return {"path": path, "name": message.name, "box": list(sample.box), "ticket": ""}
    if isinstance(message, protocol.OpenMedia):
        path = service.media.clip(message.path)
        return {"path": path, "name": path.name, "box": None, "ticket": ""}
    upload = session.upload
    if upload is None or session.uploading:
        raise UserError("nothing has been uploaded yet")
    if upload.pictures == 1:
        raise UserError("that is a single picture: choose a video, or all pictures of a sequence together")
    return {"path": upload.path, "name": upload.name, "box": None, "ticket": upload.folder.name}


async def _receive_upload(request: Request, session: Session, name: str, more: bool, service: Service) -> Response:
    """Write an upload to the disk as it comes; what is cut off or too large leaves nothing."""
    limits = service.limits
    upload = session.upload if more and session.upload is not None else session.begin_upload()
    try:
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and upload.size + int(announced) > limits.upload_bytes:
            raise UserError(_too_large(limits))
        with open(upload.next_file(name, limits), "wb") as file:
            async for block in _blocks(request):
                session.hear()
                if service.sessions.get(session.name) is None:
                    raise UserError("the page was closed")
                upload.size += len(block)
                if upload.size > limits.upload_bytes:
                    raise UserError(_too_large(limits))
                await asyncio.to_thread(file.write, block)
    except (UserError, ClientDisconnect, OSError) as error:
        session.upload = None
        service.remove(*session.stale())
        if isinstance(error, ClientDisconnect):
            return _refusal(400, "the upload was cut off")
        await _drain(request)
        if isinstance(error, OSError):
            return _refusal(507, f"the server cannot keep the upload: {error.strerror}")
        return _refusal(413, str(error))
    service.remove(*session.stale())
    return JSONResponse({"size": upload.size, "pictures": upload.pictures})


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body in blocks large enough to be worth a thread's while."""
    waiting = bytearray()
    async for part in request.stream():
        waiting += part
        if len(waiting) >= _BLOCK:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


async def _drain(request: Request) -> None:
    """Let the rest of a refused upload come, within limits: who still sends does not hear that it was refused."""
    left = _DRAINED
    with contextlib.suppress(RuntimeError, ClientDisconnect):  # all of it was read; or it goes away meanwhile
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
