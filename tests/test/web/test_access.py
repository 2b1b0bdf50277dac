"""Who is let in: by name, by origin, by token."""

import asyncio

import pytest

from lib.test.web.access import Guard, is_loopback

TOKEN = "correct-horse-battery"


async def _app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(token=None, path="/", query="", kind="http", **headers):
    """What a guarded application answers: its first message."""
    said = []
    headers = {"host": "127.0.0.1:8080"} | headers
    scope = {
        "type": kind,
        "method": "GET",
        "scheme": "http",
        "path": path,
        "server": ("127.0.0.1", 8080),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }

    async def send(message):
        said.append(message)

    asyncio.run(Guard(_app, token)(scope, None, send))
    return said[0]


def header(answer, name):
    return dict(answer["headers"]).get(name.encode(), b"").decode()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *(("127.0.0.1", True), ("localhost", True), ("LOCALHOST.", True), ("::1", True), ("[::1]", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.7", False), ("localhost.evil.example", False), ("", False)),
    ],
)
def test_loopback_is_this_machine_only(host, here):
    assert is_loopback(host) == here


def test_without_a_token_only_names_of_this_machine_are_served():
    assert ask()["status"] == 200
    assert ask(host="localhost:9999")["status"] == 200  # a tunnel's port
    assert ask(host="[::1]:8080")["status"] == 200
    # A stranger's page whose name leads here (DNS rebinding).
    assert ask(host="evil.example:8080", origin="http://evil.example:8080")["status"] == 403
    assert ask(host="evil.example", kind="websocket") == {"type": "websocket.close", "code": 1008}
    assert ask(host="[bad")["status"] == 403
    assert ask(host="")["status"] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://[bad", ""])
def test_pages_of_others_are_refused(origin):
    assert ask(origin=origin)["status"] == 403
    assert ask(origin=origin, kind="websocket")["type"] == "websocket.close"
    own = {"authorization": f"Bearer {TOKEN}"}
    assert ask(TOKEN, origin=origin, kind="websocket", **own)["type"] == "websocket.close"


def test_the_own_page_is_let_in():
    assert ask(origin="http://127.0.0.1:8080", kind="websocket") == {"type": "websocket.accept"}


def test_nothing_is_served_without_the_token():
    for path in ("/", "/page/app.js", "/api/sessions/x/media"):
        answer = ask(TOKEN, path=path)
        assert answer["status"] == 401
    assert ask(TOKEN, kind="websocket")["type"] == "websocket.close"
    wrong = [
        {"query": "token=wrong"},
        {"query": "token="},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": TOKEN},
        {"authorization": "Bearer é"},
        {"cookie": "stark_token_8080=wrong"},
        {"cookie": f"stark_token_9090={TOKEN}"},
        {"path": "/api/sessions/x/media", "query": "token=correct-horse-battery"},  # only the page's address has it
    ]
    for given in wrong:
        assert ask(TOKEN, **given)["status"] == 401, given


def test_the_token_moves_from_the_address_to_a_cookie():
    answer = ask(TOKEN, query="token=correct-horse-battery")
    assert (answer["status"], header(answer, "location")) == (303, "/")
    cookie = header(answer, "set-cookie")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    value = cookie.split(";")[0]
    assert value.startswith("stark_token_8080=")
    assert ask(TOKEN, cookie=f"other=1; {value}")["status"] == 200
    assert ask(TOKEN, cookie=value, kind="websocket") == {"type": "websocket.accept"}
    assert ask(TOKEN, authorization=f"Bearer {TOKEN}")["status"] == 200
    # A token lets in by any name: a stranger's page has no cookie of this server.
    assert ask(TOKEN, cookie=value, host="workstation:8080")["status"] == 200


def test_answers_forbid_what_is_from_elsewhere():
    for answer in (ask(), ask(TOKEN)):
        policy = header(answer, "content-security-policy")
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert header(answer, "x-content-type-options") == "nosniff"
        assert header(answer, "referrer-policy") == "no-referrer"
