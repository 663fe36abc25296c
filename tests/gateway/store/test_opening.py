"""Which database the settings mean."""

import sys
from pathlib import Path

import pytest

from gateway.settings.loader import load_settings
from gateway.settings.schema import StoreSettings
from gateway.store.opening import store_of
from runtime.errors import MissingExtra, SetupError


def test_a_server_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.store.postgres.database", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lockgate\[postgres\]'"):
        store_of(StoreSettings(url="postgresql://127.0.0.1/db"))
    assert store_of(StoreSettings(url="postgresql://127.0.0.1/db", enabled=False)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path = "a.db"\nurl = "postgresql://h/d"', "store.path and store.url are both set"),
        ('url = "mysql://ann:hunter2@h/d"', "store.url begins with none of postgresql://"),
        ('url = "host=h password=hunter2"', "store.url begins with none of postgresql://"),
        ('path = "postgresql://ann:hunter2@h/d"', "goes into store.url"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"[store]\n{text}\n", encoding="utf-8")
    with pytest.raises(SetupError, match=message) as told:
        load_settings(str(file), environ={})
    assert "hunter2" not in str(told.value)
