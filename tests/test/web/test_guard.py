"""Who is let in: by name, by origin, by token."""

import pytest
from fastapi.requests import HTTPConnection
from starlette.datastructures import Headers

from lib.test.web.server import choose_token, refusal
from lib.utils.errors import UserError

TOKEN = "correct-horse-battery"
COOKIE = f"stark_token_8080={TOKEN}"


def ask(token=None, path="/", query="", **headers):
    """Status of the answer to a request, 200 where it is let in; and the answer."""
    scope = {"type": "http", "scheme": "http", "path": path, "server": ("127.0.0.1", 8080)}
    scope |= {"query_string": query.encode(), "headers": Headers({"host": "127.0.0.1:8080"} | headers).raw}
    answer = refusal(HTTPConnection(scope), token)
    return answer.status_code if answer else 200, answer


def test_a_token_is_made_up_beyond_this_machine():
    assert choose_token("127.0.0.1", None) is None
    assert choose_token("::1", "given-one") == "given-one"
    made = choose_token("0.0.0.0", None)
    assert len(made) >= 32
    assert made != choose_token("0.0.0.0", None)
    for bad in ("short", "with a space", "long-enough\n"):
        with pytest.raises(UserError, match="at least 8 letters"):
            choose_token("127.0.0.1", bad)


def test_without_a_token_only_names_of_this_machine_are_served():
    for host in ("127.0.0.1", "localhost:9999", "[::1]:8080"):  # as through a tunnel
        assert ask(host=host)[0] == 200
    # A stranger's page whose name leads here (DNS rebinding).
    assert ask(host="evil.example:8080", origin="http://evil.example:8080")[0] == 403
    assert ask(host="[bad")[0] == ask(host="")[0] == 403
    assert ask(origin="http://127.0.0.1:8080")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://[bad", ""])
def test_pages_of_others_are_refused(origin):
    assert ask(origin=origin)[0] == 403
    assert ask(TOKEN, origin=origin, cookie=COOKIE)[0] == 403


def test_nothing_is_served_without_the_token():
    for path, query in (("/", ""), ("/app.js", f"token={TOKEN}"), ("/", "token=wrong"), ("/", "token=")):
        assert ask(TOKEN, path, query)[0] == 401
    for cookie in ("stark_token_8080=wrong", f"stark_token_9090={TOKEN}", f"other={TOKEN}", "=;=", "stark_token_8080"):
        assert ask(TOKEN, cookie=cookie)[0] == 401


def test_the_token_moves_from_the_address_to_a_cookie():
    status, answer = ask(TOKEN, query=f"token={TOKEN}")
    assert (status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert ask(TOKEN, cookie=f"other=1; {COOKIE}")[0] == 200
    assert ask(TOKEN, cookie=COOKIE)[0] == 200
    # A token lets in by any name: a stranger's page has no cookie of this server.
    assert ask(TOKEN, cookie=COOKIE, host="workstation:8080")[0] == 200
