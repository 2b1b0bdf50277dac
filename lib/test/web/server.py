"""The server: who is let in, the page, a WebSocket for each open page, uploads and downloads."""

import asyncio
import contextlib
import json
import mimetypes
import re
import secrets
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.requests import HTTPConnection
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from ...utils.errors import UserError
from .clips import Limits, Media
from .downloads import DOWNLOADS, file_name
from .session import Session
from .trackers import Trackers

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
# Bytes of a message of a page; and how many may wait, 32 MiB together. Kept work comes in parts, of 8 MiB at most.
_LARGEST_MESSAGE, _MOST_WAITING = 64 * 2**10, 512
_GONE = (WebSocketDisconnect, RuntimeError, CancelledError)  # a page that went, a server that ends: `end` follows
# Nothing from elsewhere is loaded, and nobody else's page may frame this one.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
routes = APIRouter()


def run_server(
    host: str, port: int, token: str | None, directories: Sequence[Path], limits: Limits, tracker: Sequence
) -> None:
    """Serve until Ctrl-C or SIGTERM; the address is printed once everything is ready.

    `tracker` holds the arguments of `Trackers`; port 0 is any free one. A UserError where the port is taken, a
    directory does not exist, or the tracker cannot be used.
    """
    media, token = Media(directories), choose_token(host, token)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}, port {port}: {reason}; choose another --port or --host") from error
    # uvicorn raises the signal again at its end: files are removed first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with listener, tempfile.TemporaryDirectory(prefix="stark-web-", ignore_cleanup_errors=True) as folder:
        print("starting the tracker", flush=True)
        config = uvicorn.Config(
            create_app(token, partial(Session, Path(folder), limits, Trackers(*tracker), media)),
            log_level="warning",
            access_log=False,  # addresses hold the token, and sessions' names
            server_header=False,
            lifespan="off",  # a second Ctrl-C would print its traceback
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # pictures are compressed already
            ws_ping_timeout=120,  # a laptop may sleep a little
            timeout_graceful_shutdown=2,
        )
        name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        print(f"open http://{name}:{listener.getsockname()[1]}/{f'?token={token}' if token else ''}", flush=True)
        if token:
            print("whoever knows this address can use the server and see the directories of --media", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def create_app(token: str | None, new_session: Callable[[Callable], Session]) -> FastAPI:
    """The application; `new_session` takes the function that sends to a page."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # these pages load scripts from elsewhere
    app.state.token, app.state.new_session, app.state.sessions = token, new_session, {}
    app.middleware("http")(guard)
    app.include_router(routes)
    mimetypes.add_type("text/javascript", ".js")  # Windows may say otherwise
    app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
    return app


async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer a request that is let in."""
    response = refusal(request, request.app.state.token) or await answer(request)
    response.headers.update(_HEADERS)
    return response


@routes.websocket("/api/session")
async def serve(page: WebSocket) -> None:
    """Run a session for as long as its page is open."""
    state, loop = page.app.state, asyncio.get_running_loop()
    if refusal(page, state.token):
        await page.close()  # with status 403: a denial with a text of its own is an error in uvicorn's log
        return
    await page.accept()

    def send(message: dict, picture: bytes | None) -> None:
        """Called in the session's thread: waits until the page has room."""
        # The length of the JSON (4 bytes, little-endian), the JSON, the picture.
        text = json.dumps(message).encode()
        data = struct.pack("<I", len(text)) + text + (picture or b"")
        with contextlib.suppress(*_GONE):
            asyncio.run_coroutine_threadsafe(page.send_bytes(data), loop).result()

    session = state.new_session(send)
    state.sessions[session.name] = session
    try:
        session.start()
        while (event := await page.receive())["type"] == "websocket.receive":
            if session.inbox.qsize() >= _MOST_WAITING:
                return
            session.inbox.put(event.get("text") or "null")
    finally:
        del state.sessions[session.name]
        session.end()


def _find(request: Request, session: str) -> Session:
    """The session that an address names."""
    if session not in request.app.state.sessions:
        raise HTTPException(404, "this page is no longer connected: reload it")
    return request.app.state.sessions[session]


Found = Annotated[Session, Depends(_find)]


@routes.post("/api/{session}/upload")
async def upload(request: Request, found: Found, name: str, more: bool = False) -> None:
    """Write an upload to the disk as it arrives; of one that is too large, the rest is read and not kept."""
    most = found.limits.upload_mb
    async with found.uploading:
        try:
            with open(found.next_upload(name, more), "wb") as file:
                async for block in request.stream():
                    found.uploaded += len(block)
                    if found.uploaded <= most * 2**20:
                        file.write(block)
        except OSError as error:
            raise HTTPException(507, f"the server cannot keep the upload: {error.strerror}") from error
        except ClientDisconnect:
            return
        if found.uploaded > most * 2**20:
            raise HTTPException(413, f"the upload is too large: at most {most:g} MB are taken here")


@routes.get("/api/{session}/{what}")
def download(found: Found, what: str) -> FileResponse:
    """A file that the session has written."""
    if what not in DOWNLOADS or not (found.folder / what).is_file():
        raise HTTPException(404, "this file has not been made yet")
    return FileResponse(found.folder / what, filename=f"{file_name(found.clip.name)}_{DOWNLOADS[what][1]}")


def refusal(request: HTTPConnection, token: str | None) -> Response | None:
    """The answer to a request or WebSocket that is not let in, else None.

    The token comes as a cookie; in an address (`/?token=…`) it is exchanged for the cookie at once, so that it does not
    stay in the history. A page of another origin is always refused. Without a token, only names of this machine are
    served: otherwise a stranger's page could lead its own name here (DNS rebinding).
    """
    host, origin = request.headers.get("host", "").lower(), request.headers.get("origin")
    if token is None and re.sub(r":\d*$", "", host) not in _LOOPBACK:
        return PlainTextResponse("This server answers only to the names of its own machine (127.0.0.1).", 403)
    if origin is not None and origin.lower().partition("://")[2] != host:
        return PlainTextResponse("This request comes from another page.", 403)

    # Servers on other ports have other names, although cookies do not tell ports apart.
    cookie = f"stark_token_{request.scope['server'][1]}"
    if token is None or _equal(request.cookies.get(cookie, ""), token):
        return None
    if request.scope["path"] == "/" and _equal(request.query_params.get("token", ""), token):
        response = RedirectResponse("/", 303)
        # Lax: a link in somebody's mail leads in; what other pages send is refused by its origin.
        secure = request.scope["scheme"] == "https"
        response.set_cookie(cookie, token, httponly=True, samesite="lax", secure=secure)
        return response
    return PlainTextResponse(
        "This page needs its token: open the whole address that the server printed, from http to the end.", 401
    )


def _equal(given: str, token: str) -> bool:
    """Compare in a time that does not tell how much is right."""
    return secrets.compare_digest(given.encode(), token.encode())


def choose_token(host: str, given: str | None) -> str | None:
    """The token that pages need: the given one, else a new one beyond this machine, else none."""
    if given is None:
        return None if host in _LOOPBACK else secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9._~-]{8,}", given):  # it could be guessed, or does not fit into an address
        raise UserError("a --token has at least 8 letters, digits, dots, dashes and underscores")
    return given
