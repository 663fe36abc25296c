"""What an engine cannot do is refused by name, and what crosses the border stays what it was."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import engines
from runtime.config.engine import EngineConfig
from runtime.engines import create_engine
from runtime.engines.features import ALL_FEATURES, check_features, features_of
from runtime.engines.scripted.engine import FEATURES
from runtime.errors import InvalidRequest
from runtime.messages.request import Request, Thinking
from runtime.messages.structured_output import StructuredOutput
from runtime.messages.wire import RequestFailed, Submit, decode_to_engine, encode
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.worker.core import EngineCore
from tests.kit.engines import a_request

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("logit_bias", {"logit_bias": {5: 1.5}}),
    ("logprobs", {"logprobs": 0}),
    ("min_tokens", {"min_tokens": 2}),
    ("prompt_logprobs", {"prompt_logprobs": 0}),
    ("repetition_penalty", {"repetition_penalty": 1.1}),
    ("stop_token_ids", {"stop_token_ids": (5,)}),
    ("structured_output", {"structured_output": StructuredOutput(choice=("a", "b"))}),
    ("lora", {}),
    ("thinking_token_budget", {}),
]


def request(feature: str, sampling: dict[str, Any]) -> Request:
    lora = "adapter" if feature == "lora" else ""
    budget = 7 if feature == "thinking_token_budget" else None
    thinking = Thinking(start="<a>", end="</a>", budget=budget)
    return a_request(lora=lora, thinking=thinking, **sampling)


@pytest.mark.parametrize(("feature", "sampling"), ASKED)
def test_the_scripted_engine_refuses_what_it_would_ignore(
    feature: str, sampling: dict[str, Any]
) -> None:
    """And takes the rest."""
    config = EngineConfig(name="scripted")
    tokenizer = ByteTokenizer()
    core = EngineCore(create_engine(config, "", tokenizer), tokenizer, config)
    core.submit(request(feature, sampling))
    core.step()

    refusals = [m for m in core.take_messages() if isinstance(m, RequestFailed)]

    if feature in FEATURES:
        assert refusals == []
        return
    [refusal] = refusals
    expected = {"structured_output": "response_format", "lora": "model"}[feature]
    assert (refusal.kind, refusal.param) == ("invalid", expected)
    assert refusal.code == "unsupported_parameter"
    assert not core.has_work


@pytest.mark.parametrize(("feature", "sampling"), ASKED)
def test_a_feature_is_found_and_allowed_by_its_name(feature: str, sampling: dict[str, Any]) -> None:
    asked = request(feature, sampling)
    assert features_of(asked) == [feature]
    check_features(asked, ALL_FEATURES, "some")
    with pytest.raises(InvalidRequest, match="does not support"):
        check_features(asked, ALL_FEATURES - {feature}, "some")  # type: ignore[operator]


@pytest.mark.parametrize("file", sorted(Path(engines.__file__).parent.glob("*/*.py")), ids=str)
def test_an_engine_lists_what_it_can_do(file: Path) -> None:
    """So that a new feature is one that no engine has until its own code says so."""
    assert "ALL_FEATURES" not in file.read_text()


def test_all_features_are_asked_for_here() -> None:
    assert {feature for feature, _ in ASKED} == ALL_FEATURES


@pytest.mark.parametrize(("feature", "sampling"), ASKED)
def test_a_request_crosses_the_border_unchanged(feature: str, sampling: dict[str, Any]) -> None:
    asked = request(feature, sampling)
    assert decode_to_engine(encode(Submit(asked))) == Submit(asked)


@pytest.mark.parametrize("fields", [{}, {"json": "{}", "regex": "a"}, {"choice": ()}])
def test_a_structured_output_is_exactly_one_thing(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        StructuredOutput(**fields)
    with pytest.raises(msgspec.ValidationError, match="exactly one of"):
        msgspec.convert(fields, StructuredOutput)
