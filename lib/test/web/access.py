"""Who may talk to the server: pages of its own, by people who have its token where one is needed."""

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing from elsewhere is loaded, and nobody else's page may frame this one.
_HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets requests and WebSockets through, or refuses them.

    The token may come as a cookie or as `Authorization: Bearer`; in an address (`/?token=…`) it is exchanged for the
    cookie at once, so that it does not stay in the history. A page of another origin is always refused. Without a
    token, only names of this machine are served: otherwise a stranger's page could lead its own name here (DNS
    rebinding).

    Args:
        app: what is guarded.
        token: the token; None where none is needed, which is only so on the loopback address.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await refusal(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._token is None and not is_loopback(_part(f"//{host}", "hostname")):
            return PlainTextResponse("This server answers only to the names of its own machine (127.0.0.1).", 403)
        origin = headers.get("origin")
        if origin is not None and _part(origin, "netloc").lower() != host:
            return PlainTextResponse("This request comes from another page.", 403)
        if self._token is None or self._has_token(headers, _cookie(scope)):
            return None
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if scope["path"] == "/" and self._is_token(query.get("token", "")):
            response = RedirectResponse("/", 303)
            secure = scope["scheme"] == "https"
            # Lax: a link in somebody's mail leads in; what other pages send is refused by its origin.
            response.set_cookie(_cookie(scope), self._token, httponly=True, samesite="lax", secure=secure)
            return response
        return PlainTextResponse(
            "This page needs its token: open the whole address that the server printed, from http to the end.", 401
        )

    def _has_token(self, headers: Headers, cookie: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            return False
        return found is not None and self._is_token(found.value)

    def _is_token(self, given: str) -> bool:
        """In a time that does not tell how much of it was right."""
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _cookie(scope: Scope) -> str:
    """The cookie's name; servers on other ports of a host have others, although cookies do not tell ports apart."""
    return f"stark_token_{scope['server'][1]}"


def _part(address: str, part: str) -> str:
    """`hostname` or `netloc` of an address, "" where it has none or is no address."""
    try:
        return getattr(urlsplit(address), part) or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(each for each in _HEADERS.items() if each[0] not in present)]
        await send(message)

    return sending
