"""`lockgate store` where the store is a PostgreSQL database."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.settings.schema import StoreSettings
from gateway.store.opening import open_existing
from gateway.store.record import Record

pytestmark = pytest.mark.usefixtures("own_folder")


def test_all_but_backup_work_as_with_a_file(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["store", *arguments, "--set", f"store.url={url}"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    with closing(open_existing(StoreSettings(url=url))) as database:
        for id in ("a", "b"):
            for kind in ("response", "response.input"):
                new = Record(kind=kind, id=id, owner=id, created_at=1.0, body=b'{"n": 1}')
                database.put(new)
    report = json.loads(run("info", "--json")[1])
    assert report["num_records"] == 4
    assert "secret" not in report["place"]
    assert len(run("export", "--owner", "a")[1].splitlines()) == 2
    assert run("vacuum")[0] == run("vacuum", "--full")[0] == 0
    code, output, errors = run("backup", "copy")
    assert (code, output, "pg_dump" in errors) == (2, "", True)
    assert list(tmp_path.iterdir()) == []
    assert run("purge", "--kind", "response", "--owner", "a", "--yes")[0] == 0
    assert json.loads(run("info", "--json")[1])["num_records"] == 2
