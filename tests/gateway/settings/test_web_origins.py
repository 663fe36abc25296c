"""Hosts and origins in settings that no browser could ever send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.web_origin import is_own_host, is_own_page
from gateway.settings.loader import load_settings
from gateway.settings.schema import ServerSettings
from gateway.settings.web_origins import check_web_origins
from runtime.errors import SetupError


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "file://",
        "https://chat.example",
        "http://localhost:3000",
        "https://chat.example:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "https://a.example.",
        "http://my_box",
        "chrome-extension://abcdefghijklmnop",
        "app://obsidian.md",
        "tauri://localhost",
    ],
)
def test_origins_that_browsers_send(origin: str) -> None:
    check_web_origins(ServerSettings(cors_allow_origins=[origin]))


@pytest.mark.parametrize(
    ("origin", "advice"),
    [
        ("https://chat.example/", 'write "https://chat.example"'),
        ("https://chat.example/app?a=b#c", 'write "https://chat.example"'),
        ("chat.example", 'write "https://chat.example"'),
        ("//chat.example", 'write "https://chat.example"'),
        ("localhost:3000", 'write "http://localhost:3000"'),
        ("HTTPS://chat.example", 'write "https://chat.example"'),
        ("https://Chat.Example", 'write "https://chat.example"'),
        ("https://chat.example:443", 'write "https://chat.example"'),
        ("http://chat.example:80", 'write "http://chat.example"'),
        ("http://[0:0::1]:80", 'write "http://[::1]"'),
        ("https://bücher.example", 'write "https://xn--bcher-kva.example"'),
        (" https://chat.example ", 'write "https://chat.example"'),
        ("https://*.example", 'write it like "https://chat.example"'),
        ("https://chat.example:*", 'write it like "https://chat.example"'),
        ("http*://chat.example", 'write it like "https://chat.example"'),
        ("https://a.example, https://b.example", 'write it like "https://chat.example"'),
        ("https://user@chat.example", 'write it like "https://chat.example"'),
        ("https://chat.example:0", 'write it like "https://chat.example"'),
        ("https://", 'write it like "https://chat.example"'),
        ("", 'write it like "https://chat.example"'),
    ],
)
def test_origins_that_no_browser_sends(origin: str, advice: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_web_origins(ServerSettings(cors_allow_origins=["https://a.example", origin]))
    message = f"server.cors_allow_origins: {origin!r} can match no request of a browser; {advice}"
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "host", ["*", "chat.example", "Chat.Example", "my_box", "10.0.0.1", "::1", "localhost"]
)
def test_hosts_that_browsers_send(host: str) -> None:
    check_web_origins(ServerSettings(allowed_hosts=[host]))


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("https://chat.example", 'write "chat.example"'),
        ("https://chat.example:8443/v1", 'write "chat.example"'),
        ("chat.example:8000", 'write "chat.example"'),
        ("chat.example/", 'write "chat.example"'),
        ("chat.example.", 'write "chat.example"'),
        ("[::1]", 'write "::1"'),
        ("bücher.example", 'write "xn--bcher-kva.example"'),
        (" chat.example", 'write "chat.example"'),
        ("*.example", 'write it like "chat.example"'),
        ("a.example,b.example", 'write it like "chat.example"'),
        ("", 'write it like "chat.example"'),
    ],
)
def test_hosts_that_no_browser_sends(host: str, advice: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_web_origins(ServerSettings(allowed_hosts=[host]))
    message = f"server.allowed_hosts: {host!r} can match no request of a browser; {advice}"
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["cors_allow_origins", "allowed_hosts"])
def test_they_are_refused_at_the_start(name: str) -> None:
    environ = {f"LOCKGATE__SERVER__{name.upper()}": json.dumps(["https://chat.example/v1"])}
    with pytest.raises(SetupError, match=rf"server\.{name}: 'https://chat\.example/v1' can match"):
        load_settings("/dev/null", environ=environ)


WORDS = st.sampled_from(
    [
        "http",
        "https",
        "://",
        "//",
        "/",
        ":",
        "80",
        "3000",
        "chat.example",
        "[::1]",
        "*",
        "@",
        "É",
        " ",
    ]
)


@given(st.lists(WORDS, max_size=5).map("".join) | st.text(max_size=20))
def test_what_is_taken_matches_and_what_is_advised_is_taken(entry: str) -> None:
    for name in ("cors_allow_origins", "allowed_hosts"):
        try:
            check_web_origins(ServerSettings(**{name: [entry]}))
        except SetupError as error:
            advised = str(error).partition('; write "')[2].partition('"')[0]
            if advised:
                check_web_origins(ServerSettings(**{name: [advised]}))
            continue
        if name == "cors_allow_origins":
            assert is_own_page(entry, "", [entry])
        else:
            sent = f"[{entry}]" if ":" in entry else entry
            assert is_own_host(f"{sent}:8000", [entry])
