"""The server: one page, a WebSocket for each open page, uploads and downloads."""

import asyncio
import contextlib
import re
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from lib.test.web.access import Guard, is_loopback
from lib.test.web.limits import Limits
from lib.test.web.media import Media
from lib.test.web.process import Start, TrackerProcess
from lib.test.web.routes import add_routes
from lib.test.web.service import Service
from lib.utils.errors import UserError

_LARGEST_MESSAGE = 64 * 1024


@dataclass(frozen=True)
class Options:
    """What a server is started with.

    Attributes:
        host, port: where it listens; port 0 is any free one.
        token: what a page has to know; None: nothing on this machine, a new one beyond it.
        media: directories that pages may look into.
        limits: what is taken.
        settings: the tracker; see `lib.test.web.process.Start`.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    media: Sequence[Path] = ()
    limits: Limits = field(default_factory=Limits)
    settings: dict = field(default_factory=dict)


def run_server(options: Options) -> None:
    """Serve until Ctrl-C or SIGTERM; the address is printed once everything is ready.

    Raises:
        UserError: the port is taken, a directory is none, or the tracker cannot be used.
    """
    media = Media(options.media)
    token = choose_token(options.host, options.token)
    listener = _listen(options.host, options.port)
    with listener, tempfile.TemporaryDirectory(prefix="stark-web-", ignore_cleanup_errors=True) as folder:
        process = TrackerProcess(Start(options.settings, options.limits, Path(folder)))
        try:
            print("starting the tracker", flush=True)
            catalogue = process.start()
            service = Service(process, catalogue, media, options.limits, Path(folder))
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
        finally:
            process.stop()


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
    """The application over a service whose process has been started."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.attach(asyncio.get_running_loop())
        yield

    # Without FastAPI's own pages, which load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, service)
    return app


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
