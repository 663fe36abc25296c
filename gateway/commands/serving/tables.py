"""Mistakes in the tables of several models: whose they are, and what they stop."""

from collections.abc import Callable
from typing import TypeVar

from gateway.settings.schema import Settings
from runtime.config.engines import ENGINES
from runtime.errors import MissingExtra, ModelFileError, ModelNotFound, PullError, SetupError

T = TypeVar("T")


def naming_table(settings: Settings, look: Callable[[Settings], T]) -> T:
    """What `look` finds out about one model. Raises its SetupError; of several models the message
    begins with the setting in the model's own table."""
    try:
        return look(settings)
    except SetupError as error:
        if not settings.models:
            raise
        raise SetupError(f"models.{settings.model.served_name}{_place(settings, error)}") from error


def _place(settings: Settings, error: SetupError) -> str:
    """The rest of the message, from the table's name on."""
    message = str(error)
    if message.startswith("model."):
        return message.removeprefix("model")
    if message.startswith("engine."):
        return f".{message}"
    match error:
        case MissingExtra():
            return f".engine.name: {message}"
        case ModelNotFound() | ModelFileError() | PullError():
            has_model = ENGINES[settings.engine.name].model_form != "any"
            return f".{'name_or_path' if has_model else 'tokenizer'}: {message}"
    return f": {message}"


def stops_the_server(settings: Settings) -> bool:
    """Whether a mistake of this model does: not if it is loaded later than the server, or never."""
    name = settings.model.served_name
    return not settings.models or settings.models[name].load == "start"


def problem_of(settings: Settings, look: Callable[[Settings], object]) -> str:
    """What is wrong with a model, as a sentence; empty if nothing is. Raises SetupError for a model
    that stops the server."""
    try:
        naming_table(settings, look)
    except SetupError as error:
        if stops_the_server(settings):
            raise
        return str(error)
    return ""
