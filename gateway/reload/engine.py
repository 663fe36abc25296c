"""The engine of this machine, as far as settings concern it."""

from gateway.observability.log import engine_log_form
from gateway.settings.schema import Settings
from runtime.supervisor.supervisor import Supervisor


class SupervisedEngine:
    """Hands settings over to a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def use(self, settings: Settings) -> None:
        """Has these settings from the next process on, at the latest."""
        self._supervisor.use(settings.engine, engine_log_form(settings.log))

    def restart(self) -> None:
        """Replaces the process. Requests in flight continue on the next one."""
        self._supervisor.restart()

    def replace(self, settings: Settings) -> None:
        """Replaces the process by one with these settings, if it can load with them."""
        self._supervisor.restart_with(settings.engine)
