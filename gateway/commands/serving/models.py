"""The models of a server that is about to start: checked, found, downloaded."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from gateway.commands.models_on_disk import ensure_model, find_model, open_store
from gateway.commands.serving.tables import naming_table, problem_of, stops_the_server
from gateway.settings.schema import Settings
from runtime.config.engines import ENGINES
from runtime.errors import MissingExtra, SetupError
from runtime.hardware.engine_checks import named_library_problem
from runtime.models.adapters.lora_file import check_adapters

log = structlog.get_logger(__name__)


def find_problems(
    models: Sequence[Settings], check: Callable[[Settings], object]
) -> dict[str, str]:
    """Why models do not pass a check, by their names. Raises SetupError for a model that is to be
    loaded with the server."""
    found = {each.model.served_name: problem_of(each, check) for each in models}
    return {name: problem for name, problem in found.items() if problem}


def warn_of(problems: Mapping[str, str]) -> None:
    """Logs why models cannot be used, by their names."""
    for name, problem in problems.items():
        log.warning("model_not_usable", model=name, reason=problem)


def prepare_models(
    settings: Settings, models: Sequence[Settings], problems: dict[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings with the names of all models filled in, and the path of each model by its name.
    It is empty for models with `problems`, to which those are added that are found now. Raises
    SetupError."""
    if not settings.models:
        settings, path = prepare_model(settings)
        return settings, {settings.model.served_name: path}
    paths = {each.model.served_name: _path_of(each, problems) for each in models}
    return settings, paths


def _path_of(settings: Settings, problems: dict[str, str]) -> str:
    name = settings.model.served_name
    if name in problems:
        return ""
    try:
        return naming_table(settings, prepare_model)[1]
    except SetupError as error:
        if stops_the_server(settings):
            raise
        problems[name] = str(error)
        return ""


def prepare_model(settings: Settings) -> tuple[Settings, str]:
    """The settings with `served_name` filled in, and the path of the model's file or folder. A
    model of the catalogue is downloaded if it is missing.

    The scripted engine has no model: its path is that of the model whose tokenizer it uses, or
    empty. Raises SetupError.
    """
    if not _needs_model(settings):
        return _prepare_without_model(settings)
    if settings.model.tokenizer:
        raise SetupError("model.tokenizer is for the scripted engine alone; leave it empty")
    never = settings.models and settings.models[settings.model.served_name].load == "never"
    model = find_model(settings) if never else ensure_model(settings)
    if model.is_present:
        check_adapters(settings.engine.adapter_files, str(model.path))
    return _named(settings, model.name), str(model.path)


def _needs_model(settings: Settings) -> bool:
    return ENGINES[settings.engine.name].model_form != "any"


def _prepare_without_model(settings: Settings) -> tuple[Settings, str]:
    name = str(settings.engine.name)
    if not settings.model.tokenizer:
        return _named(settings, name), ""
    model = open_store(settings).find(settings.model.tokenizer)
    if not model.is_present:
        raise SetupError(f"model.tokenizer: pull it first with: lockgate pull {model.name}")
    return _named(settings, name), str(model.path)


def _named(settings: Settings, name: str) -> Settings:
    model = msgspec.structs.replace(settings.model, served_name=settings.model.served_name or name)
    return msgspec.structs.replace(settings, model=model)


def check_model(settings: Settings) -> None:
    """Raises SetupError for a template, a model or an engine that cannot be used: before anything
    is downloaded."""
    if settings.model.chat_template:
        from gateway.models.templates import read_own_template  # takes as long as all other checks

        read_own_template(settings.model.chat_template)
    check_engine(settings)


def check_engine(settings: Settings) -> None:
    """Raises SetupError for an unknown model, a model that the engine cannot load, a missing
    package and an unusable library: before anything is downloaded."""
    if not _needs_model(settings):
        return
    find_model(settings)
    kind = ENGINES[settings.engine.name]
    if kind.packages and not any(is_installed(each.module) for each in kind.packages):
        raise MissingExtra(kind.packages[0].name, kind.extra)
    if problem := named_library_problem(settings.engine):
        raise SetupError(f"engine.llama_cpp.library: {problem}")


def is_installed(module: str) -> bool:
    """Whether the module can be imported."""
    return importlib.util.find_spec(module) is not None
