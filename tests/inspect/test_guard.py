"""Only who has the token gets in, from this machine, and nothing is changed without permission."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis import ConfigurationError, Engine
from mnesis.inspect import Inspector
from mnesis.inspect.paths import decode_id, encode_id

PAGES = ("/", "/s/main", "/s/main/log", "/search?q=valve", "/runs", "/events", "/nothing")


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_without_the_token(inspector: Inspector, path: str) -> None:
    with httpx.Client(trust_env=False) as stranger:
        assert stranger.get(inspector.address + path).status_code == 403
        wrong = stranger.get(inspector.address + path, params={"token": "x" * 32})
        assert wrong.status_code == 403
        assert not stranger.cookies


def test_the_token_becomes_a_cookie_and_leaves_the_url(inspector: Inspector) -> None:
    with httpx.Client(trust_env=False) as client:
        answer = client.get(inspector.session_url("main") + "&x=1")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/s/main?x=1"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert client.get(inspector.address + "/s/main").status_code == 200


def test_the_redirect_never_leads_to_another_host(inspector: Inspector) -> None:
    token = inspector.url.partition("token=")[2]
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"{inspector.address}//evil.example/?token={token}")
        assert answer.headers["location"] == "/evil.example/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_other_host_names_are_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code in (400, 421)


def test_every_answer_has_a_strict_policy(client: httpx.Client) -> None:
    for path in (*PAGES[:5], "/static/app.js", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("change", ["pin", "compact", "purge"])
def test_changes_are_not_offered_by_default(client: httpx.Client, inspector: Inspector, change: str) -> None:
    answer = client.post(f"/s/main/{change}", data={"confirm": "main"}, headers={"origin": inspector.address})
    assert answer.status_code in (404, 405)
    assert client.get("/s/main/purge").status_code == 404
    assert '<form method="post"' not in client.get("/s/main").text


def test_an_address_for_other_machines_must_be_allowed() -> None:
    with pytest.raises(ConfigurationError, match="other machines"):
        Inspector(Engine(":memory:"), host="0.0.0.0")


def test_unknown_things_are_not_found_and_say_so(client: httpx.Client) -> None:
    for path in (
        "/s/unknown",
        "/s/main/m/unknown",
        "/s/main/summary/unknown",
        "/runs/unknown",
        "/s/%20",
        "/s/main/files/ab",
    ):
        answer = client.get(path)
        assert (answer.status_code, "Not found" in answer.text) == (404, True), path


@given(st.text(min_size=1))
def test_any_id_is_one_path_segment(id: str) -> None:
    segment = encode_id(id)
    assert decode_id(segment) == id
    assert segment.replace("~", "").replace("-", "").replace("_", "").isalnum() or set(segment) <= set("~-_")
    assert segment.isascii()
