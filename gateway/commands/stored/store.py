"""`lockgate store ACTION`: looks after what the server remembers."""

import argparse
from typing import Protocol

from gateway.commands.stored import backup, export, info, purge, vacuum


class _Action(Protocol):
    """What a module of this folder provides. `SUMMARY` says what it does."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


_ACTIONS: dict[str, _Action] = {
    "info": info,
    "vacuum": vacuum,
    "export": export,
    "purge": purge,
    "backup": backup,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `lockgate store` with their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action in _ACTIONS.items():
        summary = action.SUMMARY
        described = f"{summary[0].upper()}{summary[1:]}."
        action.add_arguments(actions.add_parser(name, help=summary, description=described))


def run(arguments: argparse.Namespace) -> int:
    """Runs the action. All of them work while a server runs and while none does. Raises SetupError
    if there is no store, or if it cannot be used."""
    return _ACTIONS[arguments.action].run(arguments)
