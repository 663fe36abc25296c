"""The settings that hold now."""

from gateway.settings.schema import Settings


class LiveSettings:
    """The owner of the current settings. `current` is replaced as a whole, so that whoever reads it
    sees settings that belong together. Whoever keeps a part of it keeps that part for good."""

    def __init__(self, settings: Settings) -> None:
        self.current = settings
