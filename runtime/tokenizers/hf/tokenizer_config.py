"""tokenizer_config.json and its companions: special tokens and chat templates.

If files disagree, the same one wins as in transformers (tokenization_utils_base.py): a template in
a file of its own overrides one in tokenizer_config.json, and special_tokens_map.json counts only if
tokenizer_config.json does not list the added tokens itself.
"""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from runtime.errors import ModelFileError
from runtime.models.hf_folder import read_bytes, read_fields

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_SPECIAL_TOKENS_FILE = "special_tokens_map.json"
_TEMPLATE_FILE = "chat_template.jinja"
_MORE_TEMPLATES_FOLDER = "additional_chat_templates"
_OLD_TEMPLATE_FILE = "chat_template.json"
_MAX_CONFIG_BYTES = 1 << 26
_MAX_TEMPLATE_BYTES = 1 << 22
_MAX_TEMPLATES = 64
_DEFAULT = "default"


class AddedToken(Struct, frozen=True, kw_only=True):
    """A token that is found in a text before anything else; fields as in the `tokenizers`
    library."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class TokenizerConfig(Struct, frozen=True, kw_only=True):
    """`special_tokens` are texts by the names that templates use, such as "bos_token".

    `added_tokens` are by id. `chat_templates` are by name: "default" is for ordinary conversations,
    others are for a purpose, such as "tool_use".
    """

    special_tokens: dict[str, str]
    added_tokens: dict[int, AddedToken]
    chat_templates: dict[str, str]

    @property
    def chat_template(self) -> str | None:
        """The template for an ordinary conversation."""
        return self.chat_templates.get(_DEFAULT)


class _NamedTemplate(Struct):
    name: str
    template: str


class _Text(Struct):
    content: str


_Token = str | _Text | None


class _SpecialTokens(Struct):
    bos_token: _Token = None
    eos_token: _Token = None
    unk_token: _Token = None
    sep_token: _Token = None
    pad_token: _Token = None
    cls_token: _Token = None
    mask_token: _Token = None

    def texts(self) -> dict[str, str]:
        tokens = ((name, getattr(self, name)) for name in self.__struct_fields__)
        texts = ((n, token.content if isinstance(token, _Text) else token) for n, token in tokens)
        return {name: text for name, text in texts if text}


class _TokenizerConfigFile(Struct):
    added_tokens_decoder: dict[Annotated[int, Meta(ge=0)], AddedToken] | None = None
    chat_template: str | list[_NamedTemplate] | None = None


class _OldTemplateFile(Struct):
    chat_template: str | None = None


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """Reads all files about special tokens and templates; each of them may be missing.

    Raises ModelFileError, naming file and field.
    """
    path = folder / TOKENIZER_CONFIG_FILE
    config, special = _TokenizerConfigFile(), _SpecialTokens()
    if path.exists():
        config = read_fields(path, _TokenizerConfigFile, _MAX_CONFIG_BYTES)
        special = read_fields(path, _SpecialTokens, _MAX_CONFIG_BYTES)
    texts = special.texts()
    if config.added_tokens_decoder is None and (folder / _SPECIAL_TOKENS_FILE).exists():
        texts |= read_fields(folder / _SPECIAL_TOKENS_FILE, _SpecialTokens).texts()
    return TokenizerConfig(
        special_tokens=texts,
        added_tokens=config.added_tokens_decoder or {},
        chat_templates=_template_files(folder) or _templates(config) or _old_template(folder),
    )


def _template_files(folder: Path) -> dict[str, str]:
    files = {}
    if (folder / _TEMPLATE_FILE).exists():
        files[_DEFAULT] = folder / _TEMPLATE_FILE
    more = sorted((folder / _MORE_TEMPLATES_FOLDER).glob("*.jinja"))
    if len(more) > _MAX_TEMPLATES:
        raise ModelFileError(f"{folder / _MORE_TEMPLATES_FOLDER}: has {len(more)} templates.")
    files |= {path.stem: path for path in more}
    return {name: _read_text(path) for name, path in files.items()}


def _templates(config: _TokenizerConfigFile) -> dict[str, str]:
    template = config.chat_template
    if isinstance(template, list):
        return {named.name: named.template for named in template}
    return {_DEFAULT: template} if template else {}


def _old_template(folder: Path) -> dict[str, str]:
    path = folder / _OLD_TEMPLATE_FILE
    template = read_fields(path, _OldTemplateFile).chat_template if path.exists() else None
    return {_DEFAULT: template} if template else {}


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path, _MAX_TEMPLATE_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: is not UTF-8: {error}") from error
