"""Which chat template serves a model, and what is said of one that cannot."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.api.openai.translate.job import conversation_of
from gateway.generation.prepare import prepare_conversation
from gateway.models.served_model import ServedModel
from gateway.models.templates import read_own_template
from gateway.settings.schema import ModelSettings
from runtime.client.engine_client import EngineClient
from runtime.errors import InvalidRequest, SetupError
from tests.kit.chat.templates import BLIND_TEMPLATES, BROKEN_TEMPLATES, TEMPLATES
from tests.kit.engines import READY
from tests.kit.jobs import chat
from tests.kit.models.tensorrt_model import write_tensorrt_model

USELESS = {"none at all": "", **BROKEN_TEMPLATES, **BLIND_TEMPLATES}
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


async def model_with(
    tmp_path: Path, template: str, *, tokens: tuple[str, ...] = (), **settings: Any
) -> tuple[ServedModel, list[Any]]:
    """A loaded model, and what it logged."""
    folder = write_tensorrt_model(
        tmp_path / "model", chat_template=template, more_control_tokens=tokens
    )
    model = ServedModel("acme/parrot", EngineClient(), ModelSettings(**settings))
    model.engine.connected(lambda message: None, READY)
    with capture_logs() as lines:
        await model.load(str(folder))
    assert not model.load_error
    return model, lines


async def prompt_of(model: ServedModel, **fields: Any) -> str:
    token_ids, _ = await prepare_conversation(conversation_of(chat(**fields)), model)
    shown = (
        model.tokenizer.token_name(i).encode() or model.tokenizer.token_bytes(i) for i in token_ids
    )
    return b"".join(shown).decode()


@pytest.mark.anyio
@pytest.mark.parametrize("template", USELESS.values(), ids=USELESS.keys())
async def test_a_model_that_cannot_chat(template: str, tmp_path: Path) -> None:
    """The log says so at once, with the model's name; each chat is told what else there is."""
    model, lines = await model_with(tmp_path, template)

    [line] = lines
    assert model.chat_template is None
    assert (line["event"], line["log_level"], line["model"]) == ("no_chat", "error", "acme/parrot")
    for refused in (
        lambda: model.template,
        lambda: model.tool_template,
        lambda: model.tool_dialect,
    ):
        with pytest.raises(InvalidRequest, match="/v1/completions") as caught:
            refused()
        assert caught.value.param == "model"
        assert "`acme/parrot`" in str(caught.value)
        assert line["reason"] in str(caught.value)
        assert "model.chat_template" in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("template", USELESS.values(), ids=USELESS.keys())
async def test_a_vocabulary_that_was_made_for_chatml(template: str, tmp_path: Path) -> None:
    model, lines = await model_with(tmp_path, template, tokens=CHATML_TOKENS)

    [line] = lines
    assert (line["event"], line["model"], line["by"]) == (
        "chat_template_replaced",
        "acme/parrot",
        "ChatML",
    )
    assert await prompt_of(model) == ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.anyio
async def test_what_a_template_does_not_take_is_in_the_log(tmp_path: Path) -> None:
    _, lines = await model_with(tmp_path, TEMPLATES["takes parts and turns"])

    [line] = lines
    assert (line["event"], line["model"]) == ("chat_template_adapted", "acme/parrot")
    assert line["adaptations"] == ["parts", "system", "alternates", "begins_with_user"]


@pytest.mark.anyio
async def test_a_template_of_ones_own(tmp_path: Path) -> None:
    """It replaces the model's template for everything."""
    own = tmp_path / "own.jinja"
    own.write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}", encoding="utf-8")
    for template in ("", "{{ messages[0].content }}", *BROKEN_TEMPLATES.values()):
        model, lines = await model_with(tmp_path, template, chat_template=str(own))

        assert lines == []
        assert model.chat_template == own.read_text(encoding="utf-8")
        assert model.template is model.tool_template
        assert await prompt_of(model) == "<hi>"


@pytest.mark.parametrize(
    "content", [None, b"\xff", *(t.encode() for t in BROKEN_TEMPLATES.values())]
)
def test_a_file_that_is_no_template(content: bytes | None, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    if content is not None:
        own.write_bytes(content)

    with pytest.raises(SetupError, match=r"model\.chat_template: .*own\.jinja: ") as caught:
        read_own_template(str(own))
    assert "\n" not in str(caught.value)
