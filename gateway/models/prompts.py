"""The prompts of embedding models: what stands before a text, by what the text is for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from gateway.settings.schema import TextRole
from runtime.models.gguf import read_gguf

log = structlog.get_logger(__name__)

ROLES: Mapping[str, TextRole] = {
    **dict.fromkeys(
        (
            *("query", "search_query", "retrieval.query", "retrieval_query", "question"),
            *("question_answering", "code_retrieval_query"),
        ),
        "query",
    ),
    **dict.fromkeys(
        (
            *("document", "passage", "search_document", "retrieval.passage"),
            *("retrieval_document", "retrieval.document"),
        ),
        "document",
    ),
    "classification": "classification",
    **dict.fromkeys(("clustering", "separation"), "clustering"),
    **dict.fromkeys(
        ("similarity", "text-matching", "semantic_similarity", "sts", "text_matching"), "similarity"
    ),
}
"""The roles by the names that APIs and models have for them."""

CONFIG_NAME = "config_sentence_transformers.json"

_WEB = "Represent this sentence for searching relevant passages: "
_KNOWN: tuple[tuple[str, Mapping[str, str]], ...] = (
    (
        "nomic-embed-text",
        {
            role: f"{role}: "
            for role in ("search_query", "search_document", "classification", "clustering")
        },
    ),
    ("multilingual-e5", {"query": "query: ", "document": "passage: "}),
    ("e5-", {"query": "query: ", "document": "passage: "}),
    ("snowflake-arctic-embed-l-v2", {"query": "query: "}),
    ("snowflake-arctic-embed-m-v2", {"query": "query: "}),
    ("snowflake-arctic-embed", {"query": _WEB}),
    ("mxbai-embed-large", {"query": _WEB}),
    ("bge-small-en", {"query": _WEB}),
    ("bge-base-en", {"query": _WEB}),
    ("bge-large-en", {"query": _WEB}),
    (
        "embeddinggemma",
        {
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "classification": "task: classification | query: ",
            "clustering": "task: clustering | query: ",
            "similarity": "task: sentence similarity | query: ",
        },
    ),
    (
        "qwen3-embedding",
        {
            "query": (
                "Instruct: Given a web search query, retrieve relevant passages that answer the"
                " query\nQuery:"
            )
        },
    ),
)
"""What the cards of these models ask for, by the beginning of their names; the first fits."""


class TextPrompts(Struct, frozen=True):
    """The prompts of one model, by role."""

    by_role: Mapping[TextRole, str]

    def of(self, role: TextRole) -> str:
        """What stands before a text of this role; "" where the model wants nothing."""
        return self.by_role.get(role, "")


class _Config(Struct):
    prompts: dict[str, str] = {}


def find_prompts(model_path: str, chosen: Mapping[TextRole, str] | Literal["auto"]) -> TextPrompts:
    """The `chosen` prompts of the settings, else those of a sentence-transformers configuration in
    the model's folder, else those that the model of this name is known for, else none."""
    if chosen != "auto":
        return TextPrompts(chosen)
    found = _of_folder(model_path)
    if found is None:
        found = _of_name(model_path)
    named = ((ROLES.get(name.lower()), prompt) for name, prompt in found.items())
    return TextPrompts({role: prompt for role, prompt in named if role is not None})


def _of_folder(model_path: str) -> Mapping[str, str] | None:
    path = Path(model_path)
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not model_path or not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Config).prompts
    except (msgspec.DecodeError, OSError) as error:
        log.warning("prompts_unreadable", file=str(file), reason=str(error))
        return None


def _of_name(model_path: str) -> Mapping[str, str]:
    """By the name in a model file, which converters write in several spellings."""
    if not Path(model_path).is_file():
        return {}
    file = read_gguf(model_path)
    names = [file.text(f"general.{key}") for key in ("basename", "name")]
    plain = ["-".join(name.lower().replace("_", " ").split()) for name in names]
    return next(
        (prompts for start, prompts in _KNOWN if any(n.startswith(start) for n in plain)), {}
    )
