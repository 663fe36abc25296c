"""Options that commands share, and their conversion to settings."""

import argparse
import tomllib

from gateway.settings.loader import Override
from gateway.settings.schema import Settings
from gateway.settings.source import SettingsSource
from runtime.config.engines import ENGINES
from runtime.errors import SetupError


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` and `--set`; `--set` can change any setting."""
    parser.add_argument(
        "--config", metavar="PATH", help="the settings file (default: ./settings.toml)"
    )
    parser.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one setting; may be given again",
    )


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Adds shortcuts for the settings that are changed most."""
    for flag, path, help_text in _SHORTCUTS:
        parser.add_argument(flag, dest=path, metavar=flag[2:].upper(), help=help_text)


_SHORTCUTS = (
    ("--host", "server.host", "address to listen on"),
    ("--port", "server.port", "TCP port; 0 takes a free one"),
    (
        "--model",
        "model.name_or_path",
        "a name of the catalogue, or the path of a .gguf file or checkpoint folder",
    ),
    ("--engine", "engine.name", " or ".join(ENGINES)),
)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings with this command's options applied on top."""
    return source_of(arguments).loaded


def source_of(arguments: argparse.Namespace) -> SettingsSource:
    """The same, for a command that reads them again."""
    overrides = [_override("--set " + item, item) for item in arguments.set]
    for flag, path, _ in _SHORTCUTS:
        text = getattr(arguments, path, None)
        if text is not None:
            overrides.append(Override(flag, tuple(path.split(".")), text))
    if getattr(arguments, "allow_unauthenticated", False):
        setting = ("server", "allow_unauthenticated")
        overrides.append(Override("--allow-unauthenticated", setting, "true"))
    return SettingsSource(arguments.config, options=overrides)


def _override(origin: str, item: str) -> Override:
    path, equals, text = item.partition("=")
    if not equals or not path:
        raise SetupError(f"{origin}: write it as SECTION.KEY=VALUE, such as server.port=8001")
    return Override(f"--set {path}", _keys(f"--set {path}", path.strip()), text.strip())


def _keys(origin: str, path: str) -> tuple[str, ...]:
    """The parts of a path. A model's name may be in quotes, because names have dots."""
    if '"' not in path:
        section, dot, rest = path.partition(".")
        return tuple(f"{section.lower()}{dot}{rest if dot else ''}".split("."))
    try:
        keys, table = [], tomllib.loads(f"{path} = 0")
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f'{origin}: write a name with dots as models."a.b".load') from error
    while isinstance(table, dict):
        [(key, table)] = table.items()
        keys.append(key)
    return tuple(keys)
