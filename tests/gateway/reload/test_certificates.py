"""A renewed certificate is shown to new connections, while old ones go on."""

import ssl
from pathlib import Path

import pytest

from tests.gateway.reload.conftest import Serving
from tests.kit.certificates import make_certificate
from tests.kit.serving import wait_for

TLS = {"server.tls_certificate": "live.pem"}


def renew(folder: Path, name: str) -> None:
    """Certificate and key in one file, replaced at one go."""
    made = make_certificate(folder, name)
    both = folder / "both.pem"
    both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
    both.replace(folder / "live.pem")


def shown(server: Serving) -> str:
    """The name in the certificate that a new connection is shown."""
    url = server.http.base_url
    pem = ssl.get_server_certificate((url.host, url.port or 0), timeout=5)
    der = ssl.PEM_cert_to_DER_cert(pem)
    return next(name for name in ("first", "second", "third") if name.encode() in der)


def test_a_renewed_certificate_is_shown_and_streams_go_on(tmp_path: Path, serving):
    renew(tmp_path, "first")
    with serving(TLS, verify=False) as server, server.stream() as lines:
        assert shown(server) == "first"
        renew(tmp_path, "second")
        wait_for(lambda: shown(server) == "second")
        (tmp_path / "live.pem").write_text("no certificate")
        wait_for(lambda: "server.tls_certificate" in str(server.reload()["errors"]))
        assert shown(server) == "second"
        renew(tmp_path, "third")
        wait_for(lambda: shown(server) == "third")
        assert '"finish_reason":"length"' in "".join(lines)
        plain = server.http.get(str(server.http.base_url).replace("https", "http"))
        assert plain.json()["error"]["code"] == "https_required"


@pytest.mark.parametrize("key", ["second-key.pem", "first-key.pem"])
def test_other_files_are_taken_if_they_belong_together(tmp_path: Path, serving, key: str):
    for name in ("first", "second"):
        make_certificate(tmp_path, name)
    files = {"server.tls_certificate": "first-cert.pem", "server.tls_key": "first-key.pem"}
    files["server.watch_files"] = False
    with serving(files, verify=False) as server:
        server.write({**files, "server.tls_certificate": "second-cert.pem", "server.tls_key": key})
        report = server.reload()
        assert bool(report["errors"]) == (key == "first-key.pem")
        assert shown(server) == ("first" if report["errors"] else "second")


def test_tls_comes_and_goes_with_a_start_only(tmp_path: Path, serving):
    renew(tmp_path, "first")
    off = {"server.watch_files": False}
    with serving(off) as server:
        server.write({**off, **TLS})
        assert server.reload()["needs_server_restart"] == ["server.tls_certificate"]
    with serving({**off, **TLS}, verify=False) as server:
        server.write(off)
        assert server.reload()["needs_server_restart"] == ["server.tls_certificate"]
        assert shown(server) == "first"
