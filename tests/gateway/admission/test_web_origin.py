"""Which hosts and pages are our own."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.web_origin import is_own_host, is_own_page


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "10.0.0.5", "my-box"),
        *("host.docker.internal:8000", "box.local", "app.localhost", "", "localhost."),
    ],
)
def test_addresses_and_names_that_nobody_can_register(host):
    assert is_own_host(host, [])


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.com"),
        *("evil.example.", "xlocal.com", "internal.com"),
    ],
)
def test_names_of_the_public_dns_have_to_be_allowed(host):
    assert not is_own_host(host, ["llm.example"])
    assert is_own_host(host, ["*"])
    assert is_own_host(host, [host.rpartition(":")[0] or host.rstrip(".")])


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_address_is_allowed(address, port):
    host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    assert is_own_host(f"{host}:{port}", [])


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("https://evil.example", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("null", "", False),
        ("https://chat.example", "localhost:8000", True),
        ("https://chat.example.evil.com", "localhost:8000", False),
    ],
)
def test_pages(origin, host, expected):
    assert is_own_page(origin, host, ["https://chat.example"]) is expected
    assert is_own_page(origin, host, ["*"])


@given(st.text(), st.text())
def test_any_text_is_allowed_where_it_is_listed_and_nowhere_else(first, second):
    """Not even a text that no browser sends is an error."""
    assert is_own_host(first, [first, "*"])
    assert is_own_page(first, second, [first])
    if is_own_page(first, second, []):
        assert second
        assert first.partition("://")[2].lower() == second.strip().lower()
