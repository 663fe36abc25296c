"""Where the settings of this process come from, for reading them again."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.settings.loader import (
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    VARIABLE_PREFIX,
    Override,
    load_settings,
)
from gateway.settings.schema import Settings


class SettingsSource:
    """The settings file, and the variables and options of this process, which stay as they were at
    the start. `file` need not exist if nobody has named it; once read, it must stay."""

    def __init__(
        self,
        config: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        options: Sequence[Override] = (),
    ) -> None:
        named = config or environ.get(CONFIG_VARIABLE)
        self.file = Path(named or DEFAULT_FILE).expanduser()
        self._config = config
        self._is_named = bool(named)
        self._was_there = False
        self._environ = {
            name: value for name, value in environ.items() if _is_of_settings(name.upper())
        }
        self._options = tuple(options)
        self.loaded = self.load()
        """What was first read."""

    def load(self) -> Settings:
        """The settings as a server that started now would have them. Raises SetupError at the first
        mistake."""
        config = self._config
        if not self._is_named:
            self._was_there = self._was_there or self.file.is_file()
            config = str(self.file) if self._was_there else None
        return load_settings(config, environ=self._environ, options=self._options)


def _is_of_settings(name: str) -> bool:
    return name == CONFIG_VARIABLE or name.startswith(VARIABLE_PREFIX)
