"""The store of the settings, for commands."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.commands.options import settings_of
from gateway.errors import StoreFull, StoreUnavailable
from gateway.settings.mistakes import check_text
from gateway.store.opening import open_existing, path_of
from gateway.store.upkeep.maintained import Maintained, Which
from runtime.errors import SetupError

LOGS = ("-wal", "-shm")
"""How the names of the files end that SQLite keeps beside a database."""


@contextmanager
def opened(arguments: argparse.Namespace, *, upgrade: bool = True) -> Iterator[Maintained]:
    """The database, open. What it refuses meanwhile is a SetupError."""
    database = open_existing(settings_of(arguments).store, upgrade=upgrade)
    try:
        yield database
    except (StoreFull, StoreUnavailable) as error:
        raise SetupError(str(error)) from error
    finally:
        database.close()


def add_which(parser: argparse.ArgumentParser) -> None:
    """Adds options that say which records are meant."""
    parser.add_argument("--owner", metavar="NAME", help="only what belongs to this key")
    parser.add_argument(
        "--kind", metavar="KIND", help="only objects of this kind, with all that belongs to them"
    )


def which_of(arguments: argparse.Namespace) -> Which:
    """What these options mean. Raises SetupError for bytes that are no text."""
    for option in ("owner", "kind"):
        if (text := getattr(arguments, option)) is not None:
            check_text(f"--{option}", text)
    kinds = () if arguments.kind is None else (arguments.kind,)
    return Which(kinds=kinds, owner=arguments.owner)


def check_target(arguments: argparse.Namespace, target: Path) -> None:
    """Raises SetupError for what must not be overwritten: what is no plain file, the store itself,
    the log of a database, and a database whose log lies beside it, which would be taken for the log
    of what is written."""
    if target.is_dir():
        raise SetupError(f"{target} is a folder; name a file in it")
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise SetupError(f"{target} is no plain file; name another one")
    store = path_of(settings_of(arguments).store)
    if target.name.endswith(LOGS) and target.with_name(target.name[:-4]).exists():
        raise SetupError(f"{target} is the log of a database; name another file")
    if target.exists() and store.exists() and target.samefile(store):
        raise SetupError(f"{target} is the store itself; name another file")
    log = target.with_name(f"{target.name}-wal")
    if log.exists():
        raise SetupError(f"{target} is a database in use, for {log} is there; name another file")
