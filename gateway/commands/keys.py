"""`lockgate keys new`: makes an API key."""

import argparse
import hashlib

import msgspec

from gateway.admission.keys import KeyEntry, KeysFile, new_key
from runtime.errors import SetupError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate keys`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key and the lines for the file auth.keys_file")
    new.add_argument("--name", required=True, help="whose key it is: letters, digits and ._@-")
    new.add_argument("--role", default="user", choices=("user", "admin"))


def run(arguments: argparse.Namespace) -> int:
    """Prints a new key, which is stored nowhere, and the lines to add to the keys file. Raises
    SetupError for an invalid name."""
    key = new_key()
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = KeyEntry(sha256=digest, role=arguments.role)
    try:
        msgspec.convert({"keys": {arguments.name: msgspec.to_builtins(entry)}}, KeysFile)
    except msgspec.ValidationError as error:
        raise SetupError(
            f"--name: {arguments.name!r} has to be 1 to 64 letters, digits and ._@-,"
            " the first one a letter or digit"
        ) from error
    print(f"The key of {arguments.name}, shown this once: {key}")
    print("Add these lines to the file that auth.keys_file names. A running server takes them up")
    print("within two seconds (lockgate reload if server.watch_files is off):\n")
    print(f'[keys."{arguments.name}"]\nsha256 = "{digest}"\nrole = "{arguments.role}"')
    return 0
