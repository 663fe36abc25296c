"""The file or folder of a model, found again when the model is loaded."""

from pathlib import Path

from gateway.models.manager.spec import ModelSpec
from gateway.models.pulls.wanted import WantedModel, wanted_model
from runtime.config.engine import EngineName
from runtime.config.engines import ENGINES
from runtime.errors import SetupError
from runtime.models.store import Model, ModelStore


def has_file(spec: ModelSpec) -> bool:
    """Whether everything is there that the model is loaded from."""
    if not spec.path:
        return not spec.may_be_pulled and ENGINES[spec.engine.name].model_form == "any"
    return Path(spec.path).exists()


def wanted_of(spec: ModelSpec) -> WantedModel:
    """What has to be downloaded for the model."""
    return wanted_model(spec.model.name_or_path, spec.model, spec.engine)


def find_file(spec: ModelSpec) -> str:
    """Where the file or folder is that the settings name. Nothing is downloaded. Raises
    SetupError."""
    is_any = ENGINES[spec.engine.name].model_form == "any"
    is_only_tokenizer = is_any and not spec.may_be_pulled
    name = spec.model.tokenizer if is_only_tokenizer else spec.model.name_or_path
    model = ModelStore(spec.model.folder, mirrors=spec.model.mirrors, is_offline=True).find(name)
    if not model.is_present:
        raise SetupError(f"{model.name} is not on this machine; run: lockgate pull {model.name}")
    if not is_any:
        check_form(model, spec.engine.name)
    return str(model.path)


def check_form(model: Model, engine: EngineName) -> None:
    """Raises SetupError for a file or folder that the engine cannot load."""
    form = ENGINES[engine].model_form
    if form == "gguf" and model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.path} is a Hugging Face checkpoint folder, and the engine"
            f" {engine} needs a .gguf file. Name one, or choose another engine with"
            f" --engine {_engine_for('folder')}"
        )
    if form == "folder" and not model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.name} is a .gguf file, and the engine {engine} needs"
            " a Hugging Face checkpoint folder. Name one, or choose another engine with"
            f" --engine {_engine_for('gguf')}"
        )


def _engine_for(form: str) -> str:
    """The first engine that loads models of this form."""
    return next(name for name, kind in ENGINES.items() if kind.model_form == form)
