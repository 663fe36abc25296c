"""Keys that have used up what they may use in a day or a month, over real HTTP."""

from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.admission.keys import read_keys_file
from gateway.settings.schema import AuthSettings, StoreSettings
from runtime.errors import SetupError
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RERANK, RESPONSES, SCORE, TEXT
from tests.kit.guarded import Guarded, error_of
from tests.kit.reloading import reloadable_server
from tests.kit.serving import MODEL, running_server, scripted_settings, wait_for

EXHAUSTED = (429, "insufficient_quota", None)
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI, "max_tokens": 5},
    TEXT: {"prompt": "hi", "max_tokens": 5},
    RESPONSES: {"input": "hi", "max_output_tokens": 5},
    EMBEDDINGS: {"input": "hi"},
    RERANK: {"query": "hi", "documents": ["ho"]},
    SCORE: {"text_1": "hi", "text_2": "ho"},
    "/generate": {"prompt": "hi", "max_new_tokens": 5},
}

ENCODING = (EMBEDDINGS, RERANK, SCORE)


def settings_with(folder: Path) -> Any:
    return scripted_settings(
        auth=AuthSettings(keys_file=str(folder / "keys.toml")),
        store=StoreSettings(path=str(folder / "store.db")),
    )


@pytest.mark.parametrize("period", ["day", "month"])
def test_a_key_over_its_budget_is_refused_everywhere_and_after_a_restart(
    tmp_path: Path, period: str
) -> None:
    budget = {f"tokens_per_{period}": 40}
    keys = write_keys(tmp_path / "keys.toml", spender=budget, saver={"tokens_per_day": 10**6})
    for life in range(2):
        with running_server(settings_with(tmp_path)) as server:
            guarded = Guarded(server, keys)
            if not life:
                used = 0
                while used < 40:
                    answer = guarded.chat("spender", max_tokens=5)
                    assert answer.status_code == 200
                    used += answer.json()["usage"]["total_tokens"]
            for path, body in BODIES.items():
                for stream in (False,) if path in ENCODING else (False, True):
                    how = {"stream": True} if stream else {}
                    refused = guarded.post(path, "spender", model=MODEL, **body, **how)
                    assert error_of(refused) == EXHAUSTED
                    assert refused.json()["error"]["type"] == "insufficient_quota"
                    assert "retry-after" not in refused.headers
                    assert refused.headers["x-should-retry"] == "false"
                assert guarded.post(path, "saver", model=MODEL, **body).status_code == 200
            message = guarded.chat("spender").json()["error"]["message"]
            assert f"`tokens_per_{period}`" in message
            assert "00:00 UTC" in message
            for path in ("/v1/models", "/v1/organization/usage/completions?start_time=1"):
                assert guarded.get(path, "spender").status_code == 200
            tokenized = guarded.post("/tokenize", "spender", model=MODEL, prompt="hi")
            assert tokenized.status_code == 200


def test_the_official_client_does_not_try_again(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.toml", spender={"tokens_per_day": 1}, boss={"role": "admin"})
    with running_server(settings_with(tmp_path)) as server:
        guarded = Guarded(server, keys)
        assert guarded.chat("spender").status_code == 200
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=keys["spender"]) as client,
            pytest.raises(openai.RateLimitError, match="budget of 1 tokens a day") as caught,
        ):
            client.completions.create(model=MODEL, prompt="hi", max_tokens=1)
        assert caught.value.type == caught.value.code == "insufficient_quota"
        text = guarded.get("/metrics", "boss").text
        assert 'lockgate_requests_rejected_total{reason="insufficient_quota"} 1.0' in text


def test_a_refusal_costs_nothing_of_other_limits(tmp_path: Path) -> None:
    limits = {"tokens_per_day": 1, "requests_per_minute": 9, "tokens_per_minute": 900}
    keys = write_keys(tmp_path / "keys.toml", spender=limits)
    with running_server(settings_with(tmp_path)) as server:
        guarded = Guarded(server, keys)
        guarded.chat("spender")
        for _ in range(3):
            refused = guarded.chat("spender")
            assert error_of(refused) == EXHAUSTED
            assert refused.headers["x-ratelimit-remaining-requests"] == "8"


def test_budgets_and_prices_change_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    keys = write_keys(file, spender={"cost_per_day": 1.0})
    text = file.read_text(encoding="utf-8")
    settings = {
        "auth.keys_file": str(file),
        "store.path": str(tmp_path / "store.db"),
        "server.watch_files": False,
    }
    with reloadable_server(tmp_path, settings) as server:
        guarded = Guarded(server, keys)
        assert guarded.chat("spender").status_code == 200
        assert guarded.chat("spender").status_code == 200  # nothing has a price

        server.write(prices={MODEL: {"input": 0, "output": 1e6}})
        assert server.reload().json()["applied"] == ["prices"]
        assert error_of(guarded.chat("spender")) == EXHAUSTED

        file.write_text(text.replace("1.0", "1000.0"), encoding="utf-8")
        assert server.reload().json()["applied"] == ["keys.spender"]
        assert guarded.chat("spender").status_code == 200

        file.write_text(text.replace("1.0", "1000.0\ntokens_per_month = 5"), encoding="utf-8")
        server.reload()
        assert error_of(guarded.chat("spender")) == EXHAUSTED


def test_who_leaves_has_used_what_was_made(tmp_path: Path) -> None:
    keys = write_keys(
        tmp_path / "keys.toml", spender={"tokens_per_day": 60}, boss={"role": "admin"}
    )
    with running_server(settings_with(tmp_path)) as server:
        guarded = Guarded(server, keys)
        body = {"model": MODEL, "messages": HI, "max_tokens": 5000, "stream": True}
        headers = bearer(keys["spender"])
        with server.http.stream("POST", CHAT, json=body, headers=headers) as answer:
            lines = answer.iter_lines()
            for _ in range(100):
                next(lines)
        wait_for(lambda: guarded.chat("spender", max_tokens=1).status_code == 429)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tokens_per_day = 0", "keys.x: Expected `int` >= 1"),
        ("tokens_per_month = 1.5", "keys.x: Expected `int | null`"),
        ("cost_per_day = 0", "keys.x: Expected `float` > 0"),
        ("cost_per_month = 'much'", "keys.x: Expected `float | null`"),
    ],
)
def test_wrong_budgets(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.x]\nsha256 = "{"0" * 64}"\n{line}\n', encoding="utf-8")
    with pytest.raises(SetupError, match=message.replace("|", r"\|")):
        read_keys_file(file)
