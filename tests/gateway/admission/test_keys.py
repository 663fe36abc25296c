"""API keys: where they come from, and who is found."""

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.__main__ import main
from gateway.admission.keys import KeyRing, new_key, open_key_ring, presented_key, read_keys_file
from gateway.settings.schema import AuthSettings
from runtime.errors import SetupError
from tests.kit.api_keys import write_keys

ENVIRONMENT_KEY = "a-key-of-the-environment"
HASH = "a" * 64


def test_a_key_is_found_by_what_it_is_and_not_by_its_hash(tmp_path: Path):
    file = tmp_path / "keys.toml"
    keys = write_keys(file, alice={"role": "admin"}, bob={"priority": "batch"})
    ring = KeyRing(file)
    alice, bob = ring.find(keys["alice"].encode()), ring.find(keys["bob"].encode())
    assert alice is not None
    assert bob is not None
    assert (alice.name, alice.is_admin) == ("alice", True)
    assert (bob.name, bob.is_admin, bob.entry.priority) == ("bob", False, "batch")
    assert ring.find(hashlib.sha256(keys["bob"].encode()).hexdigest().encode()) is None
    assert ring.find(keys["bob"].encode() + b" ") is None
    assert ring.find(b"") is None


def test_every_search_compares_once_in_constant_time(tmp_path: Path, monkeypatch):
    compared = []

    def compare(left, right):
        compared.append((len(left), len(right)))
        return compare_digest(left, right)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr("gateway.admission.keys.hmac.compare_digest", compare)
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob={})
    ring = KeyRing(tmp_path / "keys.toml")
    for key in (*keys.values(), "wrong", ""):
        ring.find(key.encode())
    assert compared == [(32, 32)] * 4


def test_keys_of_the_environment_leave_it():
    environ = {"LOCKGATE_API_KEY": ENVIRONMENT_KEY, "LOCKGATE_ADMIN_API_KEY": "x" * 16, "A": "b"}
    ring = open_key_ring(AuthSettings(), environ)
    assert environ == {"A": "b"}
    user, admin = ring.find(ENVIRONMENT_KEY.encode()), ring.find(b"x" * 16)
    assert user is not None
    assert admin is not None
    assert (user.name, user.is_admin, admin.is_admin) == ("LOCKGATE_API_KEY", False, True)
    assert ring.is_required


def test_without_keys_none_is_needed():
    assert not open_key_ring(AuthSettings(), {"LOCKGATE_API_KEY": ""}).is_required


def test_a_short_key_is_refused_and_not_shown():
    with pytest.raises(SetupError, match="fewer than 16 characters") as caught:
        open_key_ring(AuthSettings(), {"LOCKGATE_API_KEY": "sesame"})
    assert "sesame" not in str(caught.value)


def test_replaced_keys_hold_at_once_beside_those_of_the_environment(tmp_path: Path):
    file = tmp_path / "keys.toml"
    old = write_keys(file, alice={})["alice"].encode()
    environ = {"LOCKGATE_API_KEY": "a-key-of-the-environment"}
    ring = open_key_ring(AuthSettings(keys_file=str(file)), environ)
    new = write_keys(file, bob={})["bob"].encode()
    assert ring.find(old) is not None
    ring.replace(read_keys_file(file))
    assert ring.find(old) is None
    assert ring.find(new) is not None
    assert ring.find(b"a-key-of-the-environment") is not None


def test_without_any_key_left_nobody_is_let_in(tmp_path: Path):
    file = tmp_path / "keys.toml"
    key = write_keys(file, alice={})["alice"].encode()
    ring = KeyRing(file)
    ring.replace({})
    assert ring.find(key) is None
    assert ring.is_required


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'[keys.x]\nsha256 = "{HASH}"\nrole = "root"', "keys.x: Invalid enum value 'root'"),
        (f'[keys.x]\nsha256 = "{HASH}"\nexpires = 2027-01-01T00:00:00', "keys.x: .*timezone"),
        (f'[keys.x]\nsha256 = "{HASH}"\nexpires = 2027-01-01', "keys.x: .*datetime"),
        (f'[keys.x]\nsha256 = "{HASH}"\nrpm = 1', "keys.x: .*unknown field `rpm`"),
        (f'[keys.x]\nsha256 = "{HASH}"\n[keys.y]\nsha256 = "z"', "keys.y: "),
        (f'[keys.x]\nsha256 = "{HASH}"\nrequests_per_minute = 0', "keys.x: Expected `int` >= 1"),
        (f'[keys."a b"]\nsha256 = "{HASH}"', "keys.a b: "),
        (f'[keys.x]\nsha256 = "{HASH}"\n[keys.y]\nsha256 = "{HASH}"', "x and y are the same key"),
        ("keys = 1", "Expected `object`, got `int`"),
        ("key = 1", "unknown field `key`"),
        ("[keys", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_the_key(tmp_path: Path, text: str, message: str):
    file = tmp_path / "keys.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SetupError, match=message) as caught:
        read_keys_file(file)
    assert HASH not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_keys_that_were_written_on_windows_are_read(tmp_path: Path, encoding: str):
    file = tmp_path / "keys.toml"
    file.write_bytes(f'[keys.x]\r\nsha256 = "{HASH}"\r\n'.encode(encoding))
    assert list(read_keys_file(file)) == ["x"]


def test_keys_in_another_encoding_say_what_to_do(tmp_path: Path):
    file = tmp_path / "keys.toml"
    file.write_bytes(f'[keys.x]\r\nsha256 = "{HASH}"\r\n'.encode("utf-16"))
    with pytest.raises(SetupError, match="it is not in UTF-8; save it as that") as caught:
        read_keys_file(file)
    assert HASH not in str(caught.value)


def test_a_missing_file_is_a_setup_error(tmp_path: Path):
    with pytest.raises(SetupError, match=r"auth.keys_file: .*cannot be read: No such file"):
        KeyRing(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"authorization", b"Bearer abc")], b"abc"),
        ([(b"authorization", b"bearer  abc ")], b"abc"),
        ([(b"x-api-key", b" abc ")], b"abc"),
        ([(b"authorization", b"Basic eHg6eHg=")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer"), (b"x-api-key", b"abc")], b"abc"),
        ([(b"x-api-key", b"")], None),
        ([], None),
    ],
)
def test_both_headers_carry_a_key(headers, expected):
    assert presented_key(headers) == expected


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key"]), st.binary())))
def test_no_header_breaks_the_search(headers):
    key = presented_key(headers)
    assert key is None or KeyRing().find(key) is None


def test_keys_new_prints_a_key_and_its_lines(tmp_path: Path, capsys):
    assert main(["keys", "new", "--name", "alice", "--role", "admin"]) == 0
    first, _, _, *lines = capsys.readouterr().out.splitlines()
    key = first.rpartition(" ")[2]
    (tmp_path / "keys.toml").write_text("\n".join(lines), encoding="utf-8")
    found = KeyRing(tmp_path / "keys.toml").find(key.encode())
    assert found is not None
    assert (found.name, found.is_admin) == ("alice", True)


def test_keys_new_refuses_a_name_that_the_file_would_not_take(capsys):
    assert main(["keys", "new", "--name", "al ice"]) == 2
    assert "--name: 'al ice' has to be" in capsys.readouterr().err


def test_new_keys_have_256_bits_and_are_all_different():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len("sk-lockgate-") + 43 for key in keys)
