"""`lockgate store`: info, vacuum, export, purge and backup, as a user and a script see them."""

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.commands.serving.store import check_store
from gateway.commands.stored.export import line_of
from gateway.settings.schema import StoreSettings
from gateway.store import sqlite
from gateway.store.record import Record
from gateway.store.sqlite import open_sqlite
from gateway.store.upkeep.maintained import Which
from runtime.errors import SetupError
from tests.kit.command_line import lockgate, served
from tests.kit.store_forms import STEPS

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("own_folder")

DAY = 86_400.0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["store", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store of `$LOCKGATE_DATA`, with something in it."""
    path = tmp_path / "data" / "store.db"
    fill(path)
    return path


def fill(path: Path) -> None:
    with closing(open_sqlite(path)) as database, database.transaction():
        for owner in ("ann", "bob"):
            for kind in ("response", "response.input"):
                database.put(record(kind, f"r-{owner}", owner))
            database.put(record("conversation", f"c-{owner}", owner))
            for number in range(3):
                item = record("conversation.item", f"{owner}-{number}", owner, parent=f"c-{owner}")
                database.put(item)
            database.put(record("unknown", f"u-{owner}", owner, created_at=4e9))


def record(kind: str, id: str, owner: str, **fields: Any) -> Record:
    fields = {"created_at": 5.0, "body": b'{\n"a":  "\xc3\xa4"}', **fields}
    return Record(kind=kind, id=id, owner=owner, **fields)


def left(path: Path) -> list[str]:
    with closing(open_sqlite(path)) as database:
        return sorted(each.id for each in database.records(Which()))


def test_info_tells_what_there_is(run: Run, path: Path) -> None:
    code, output, _ = run("info", "--json")
    report = json.loads(output)
    assert (code, report["place"], report["form"]) == (0, str(path), len(STEPS))
    assert (report["num_records"], report["oldest"], report["newest"]) == (14, 5.0, 4e9)
    assert report["file_bytes"] >= report["num_bytes"] > 10_000
    kinds = ("conversation", "conversation.item", "response", "response.input", "unknown")
    shares = [(share["kind"], share["owner"]) for share in report["shares"]]
    assert shares == [(kind, owner) for kind in kinds for owner in ("ann", "bob")]
    items = report["shares"][2]
    assert (items["num_records"], items["num_bytes"]) == (3, 3 * len(b'{\n"a":  "\xc3\xa4"}'))
    lines = run("info")[1].splitlines()
    assert lines[0].startswith(f"{path} (form {report['form']}): ")
    assert lines[4].split()[:4] == ["conversation.item", "ann", "3", "0.0"]


def test_an_empty_store_is_said(run: Run, tmp_path: Path) -> None:
    open_sqlite(tmp_path / "data" / "store.db").close()
    assert run("info")[1].splitlines()[1:] == ["Nothing is stored."]
    report = json.loads(run("info", "--json")[1])
    assert (report["num_records"], report["oldest"], report["shares"]) == (0, None, [])
    assert run("export") == (0, "", "")
    assert run("purge", "--all", "--yes")[:2] == (0, "Nothing like that is stored.\n")


def test_the_store_is_that_of_the_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "mine.db", tmp_path / "other.db"
    fill(file)
    open_sqlite(other).close()
    (tmp_path / "own.toml").write_text("[store]\npath = 'mine.db'\n")
    assert json.loads(run("info", "--json", "--config", "own.toml")[1])["num_records"] == 14
    monkeypatch.setenv("LOCKGATE__STORE__PATH", str(other))
    assert json.loads(run("info", "--json")[1])["num_records"] == 0
    assert json.loads(run("info", "--json", "--set", "store.path=mine.db")[1])["num_records"] == 14


def test_export_writes_a_line_of_json_for_each_record(run: Run, path: Path, tmp_path: Path) -> None:
    code, output, _ = run("export", "--owner", "ann", "--kind", "conversation")
    lines = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert [line["id"] for line in lines] == ["c-ann", "ann-0", "ann-1", "ann-2"]
    item = {"kind": "conversation.item", "id": "ann-0", "owner": "ann", "created_at": 5.0}
    assert lines[1] == item | {"parent": "c-ann", "body": {"a": "ä"}}
    assert run("export", "all.jsonl") == (0, "", "")
    written = (tmp_path / "all.jsonl").read_text(encoding="utf-8")
    assert written == run("export")[1]
    assert written.count("\n") == 14


def test_a_body_that_is_no_json_breaks_no_line() -> None:
    line = json.loads(line_of(record("x", "y", "ann", body=b"\n\xff")))
    assert line["body_base64"] == "Cv8="
    assert "body" not in line


@pytest.mark.parametrize("action", ["export", "backup"])
def test_files_are_overwritten_by_force_alone(run: Run, path: Path, action: str) -> None:
    Path("there").write_text("mine")
    code, _, errors = run(action, "there")
    assert (code, errors) == (
        2,
        "lockgate: there is there already; say --force to overwrite it\n",
    )
    assert Path("there").read_text() == "mine"
    assert run(action, "there", "--force")[0] == 0
    assert b"conversation" in Path("there").read_bytes()
    before = path.read_bytes()
    assert "is the store itself" in run(action, str(path), "--force")[2]
    assert "is a folder" in run(action, ".", "--force")[2]
    for log in ("-wal", "-shm"):
        assert "is the log of a database" in run(action, f"{path}{log}", "--force")[2]
    Path("used.db-wal").touch()
    assert "is a database in use" in run(action, "used.db")[2]
    assert path.read_bytes() == before
    assert sorted(file.name for file in Path().iterdir()) == ["data", "there", "used.db-wal"]


@pytest.mark.posix("pipes and links")
@pytest.mark.parametrize("action", ["export", "backup"])
def test_what_is_no_plain_file_is_left_alone(run: Run, path: Path, action: str) -> None:
    Path("target").touch()
    Path("link").symlink_to("target")
    os.mkfifo("pipe")
    for name in ("link", "pipe", os.devnull):
        status, _, error = run(action, name, "--force")
        assert status == 2
        assert "is no plain file" in error
    assert Path("link").is_symlink()
    assert Path("pipe").is_fifo()


def test_a_damaged_store_is_not_backed_up(run: Run, path: Path) -> None:
    with closing(open_sqlite(path)) as database, database.transaction():
        for number in range(200):
            database.put(record("response", f"r{number}", "ann", body=bytes(2000)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(path.read_bytes())
    damaged[4096 * 3 : 4096 * 12] = os.urandom(4096 * 9)
    path.write_bytes(damaged)
    assert run("backup", "copy")[0] == 2
    assert not Path("copy").exists()
    with pytest.raises(SetupError, match="cannot be read"):
        check_store(StoreSettings(path=str(path)))


def test_what_fails_leaves_no_half_of_a_file(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", "copy")

    monkeypatch.setattr(sqlite.SQLiteDatabase, "back_up", fail)
    assert run("backup", "copy")[2] == "lockgate: copy: No space left on device\n"
    Path("there").write_text("mine")
    assert run("backup", "--force", "there")[0] == 2
    assert Path("there").read_text() == "mine"
    assert sorted(file.name for file in Path().iterdir()) == ["data", "there"]


def test_a_backup_opens_as_a_store(run: Run, path: Path) -> None:
    assert run("backup", "copy.db")[0] == 0
    assert left(Path("copy.db")) == left(path)
    copied = json.loads(run("info", "--json", "--set", "store.path=copy.db")[1])
    assert copied["shares"] == json.loads(run("info", "--json")[1])["shares"]


def test_a_backup_leaves_an_earlier_form_as_it_is(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what one makes before a new version changes the form."""
    old = len(STEPS)
    newer = [*STEPS, STEPS[-1]]
    monkeypatch.setattr(sqlite, "migrations", lambda _: newer)
    assert run("backup", "copy.db")[0] == 0
    for file in (path, Path("copy.db")):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (old,)


PURGED = [
    (("--owner", "ann"), "ann"),
    (("--kind", "conversation"), "conversation"),
    (("--owner", "bob", "--kind", "response"), "r-bob"),
    (("--older-than", "1", "--owner", "ann"), "old of ann"),
    (("--kind", "unknown"), "unknown"),
    (("--older-than", "0", "--kind", "unknown"), "nothing"),
    (("--all",), "all"),
]


@pytest.mark.parametrize(("arguments", "what"), PURGED)
def test_purge_deletes_whole_objects_and_no_others(
    run: Run, path: Path, arguments: tuple[str, ...], what: str
) -> None:
    everything = left(path)
    expected = {
        "ann": [id for id in everything if "ann" in id],
        "conversation": [id for id in everything if id[0] in "abc"],
        "r-bob": ["r-bob", "r-bob"],
        "old of ann": [id for id in everything if "ann" in id and id[0] != "u"],
        "unknown": ["u-ann", "u-bob"],
        "nothing": [],
        "all": everything,
    }[what]
    code, output, _ = run("purge", *arguments, "--yes")
    deleted = f"Deleted {len(expected)} records." if expected else "Nothing like that is stored."
    assert (code, output.splitlines()[-1]) == (0, deleted)
    remaining = left(path)
    assert sorted([*remaining, *expected]) == everything


def test_purge_takes_parts_that_have_lost_their_object(run: Run, path: Path) -> None:
    with closing(open_sqlite(path)) as database:
        database.delete("response", "r-ann", None)
        database.delete("conversation", "c-ann", None)
    assert run("purge", "--owner", "ann", "--yes")[0] == 0
    assert [id for id in left(path) if "ann" in id] == []


def test_purge_by_age_takes_nothing_out_of_younger_objects(run: Run, path: Path) -> None:
    with closing(open_sqlite(path)) as database:
        database.put(record("conversation", "young", "ann", created_at=4e9))
        database.put(record("conversation.item", "in it", "ann", parent="young"))
    assert run("purge", "--older-than", "1", "--yes")[0] == 0
    assert left(path) == ["in it", "u-ann", "u-bob", "young"]


class Typed:
    """A terminal in which that was typed."""

    def __init__(self, text: str) -> None:
        self._text = text

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._text


def test_purge_says_what_it_deletes_and_takes_no_for_an_answer(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "say --yes to delete" in run("purge", "--owner", "ann")[2]
    for typed, expected in (("", 1), ("n\n", 1), ("yes\n", 0)):
        monkeypatch.setattr("sys.stdin", Typed(typed))
        code, output, _ = run("purge", "--owner", "ann")
        assert (code, "ann-0" in left(path)) == (expected, bool(expected))
        assert "Delete these 7 records? [y/N]" in output
        assert [line.split()[2] for line in output.splitlines()[1:6]] == list("13111")


@pytest.mark.parametrize("how", [(), ("--full",)])
def test_vacuum_makes_the_file_smaller(run: Run, path: Path, how: tuple[str, ...]) -> None:
    with closing(open_sqlite(path)) as database:
        for number in range(100):
            database.put(record("x", str(number), "ann", body=b"x" * 20_000))
    full = path.stat().st_size
    run("purge", "--kind", "x", "--yes")
    assert path.stat().st_size == full
    code, output, _ = run("vacuum", *how)
    assert (code, output.startswith("The store took ")) == (0, True)
    assert path.stat().st_size < full / 10
    assert len(left(path)) == 14


def test_a_file_that_cannot_become_smaller_bit_by_bit_is_written_anew(
    run: Run, tmp_path: Path
) -> None:
    """As one that was made by other means."""
    path = tmp_path / "data" / "store.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    fill(path)
    assert run("vacuum", "--full")[0] == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


MISTAKES = [
    (("info",), "there is no store "),
    (("backup", "x"), "there is no store "),
    (("purge", "--all"), "there is no store "),
    (("purge",), "say what to delete: --owner, --kind, --older-than or --all"),
    (("purge", "--kind", "response.input"), "a part of others; say --kind response"),
    (("purge", "--older-than", "x"), "--older-than: 'x' is not a number"),
    (("purge", "--older-than", "nan"), "--older-than: 'nan' is not a number"),
    (("info", "--config", "none.toml"), "none.toml cannot be read"),
    (("info", "--set", "store.path=text"), "text cannot be opened: file is not a database"),
    (("info", "--set", "store.path=."), "there is no store ."),
    (("info", "--set", "store.path=newer"), "newer was written by a newer version of Lockgate"),
    (("backup", "x", "--set", "store.path=newer"), "newer was written by a newer version"),
    (("info", "--set", "store.path=others"), "others is the database of another program"),
    (("export", "no/folder/x", "--set", "store.path=good"), "no/folder/x: No such file"),
    (("backup", "no/folder/x", "--set", "store.path=good"), "no/folder/x: No such file"),
    (("purge", "--yes"), "say what to delete"),
    (("purge", "--all", "--set", "store.path=full"), "nobody can be asked here"),
    ((), "the following arguments are required: ACTION (see: lockgate store --help)"),
    (("inof",), "argument ACTION: invalid choice: 'inof'"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    Path("text").write_text("this is no database, and long enough to be sure of it" * 99)
    for name in ("good", "newer"):
        open_sqlite(Path(name)).close()
    for name, statement in (("newer", "PRAGMA user_version = 99"), ("others", "CREATE TABLE x(a)")):
        with closing(sqlite3.connect(name)) as connection:
            connection.execute(statement)
    fill(Path("full"))
    code, output, errors = run(*arguments)
    assert (code, errors.count("\n")) == (2, 1)
    assert not output or "conversation" in output  # what would have been deleted
    assert words in errors
    assert len(left(Path("full"))) == 14
    assert not Path("data").exists()


def test_a_locked_store_is_said(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        code, _, errors = run("info")
    assert (code, "another process has locked it" in errors) == (2, True)


@pytest.mark.posix("names of files that are bytes")
@pytest.mark.skipif(sys.platform != "linux", reason="names of files that are bytes")
def test_names_that_are_no_text(run: Run, path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for option in ("--owner", "--kind"):
        code, _, errors = run("purge", option, name)
        assert (code, f"{option}: caf\\xe9 is not valid" in errors) == (2, True)
    assert "caf\\xe9 is not valid" in run("info", "--set", f"store.path={name}")[2]
    for action in ("export", "backup"):
        assert run(action, f"{name}.{action}")[0] == 0
        assert Path(f"{name}.{action}").stat().st_size > 1000


def test_names_from_a_database_are_no_markup(run: Run, tmp_path: Path) -> None:
    with closing(open_sqlite(tmp_path / "data" / "store.db")) as database:
        database.put(record("[red]kind", "x", "[/b]ann"))
    code, output, _ = run("info")
    assert (code, "[red]kind" in output, "[/b]ann" in output) == (0, True, True)


def test_a_running_server_does_not_mind(tmp_path: Path) -> None:
    with served(tmp_path, "--set", "store.path=mine.db") as server:
        request = {"model": "scripted", "input": "hi", "max_output_tokens": 4}
        ids = [server.http.post("/v1/responses", json=request).json()["id"] for _ in range(3)]
        assert server.http.get(f"/v1/responses/{ids[0]}").status_code == 200
        run = ("--set", "store.path=mine.db")
        report = json.loads(lockgate(tmp_path, "store", "info", "--json", *run).stdout)
        assert report["num_records"] == 6
        assert lockgate(tmp_path, "store", "backup", "copy.db", *run).returncode == 0
        assert lockgate(tmp_path, "store", "vacuum", *run).returncode == 0
        exported = lockgate(tmp_path, "store", "export", *run).stdout
        assert exported.count(ids[1]) >= 2
        later = server.http.post("/v1/responses", json=request).json()["id"]
        assert server.http.get(f"/v1/responses/{later}").status_code == 200
        purged = lockgate(tmp_path, "store", "purge", "--all", "--yes", *run)
        assert purged.stdout.endswith("Deleted 8 records.\n")
        assert server.http.get(f"/v1/responses/{ids[0]}").status_code == 404
        again = server.http.post("/v1/responses", json=request).json()["id"]
        assert server.http.get(f"/v1/responses/{again}").status_code == 200
    assert sorted(set(left(tmp_path / "copy.db"))) == sorted(ids)
