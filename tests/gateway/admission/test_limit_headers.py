"""What the headers say of a key's limits when the answer is a refusal."""

from pathlib import Path

from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import MODEL, running_server, scripted_settings


def test_a_refusal_costs_nothing_and_its_headers_say_so(tmp_path: Path):
    limits = {"requests_per_minute": 5, "tokens_per_minute": 200}
    keys = write_keys(tmp_path / "keys.toml", alice=limits)
    settings = scripted_settings(auth=AuthSettings(keys_file=str(tmp_path / "keys.toml")))

    def left(headers: dict[str, str]) -> list[str]:
        return [headers[f"x-ratelimit-{what}-requests"] for what in ("remaining", "reset")]

    with running_server(settings) as server:
        server.http.headers = bearer(keys["alice"])

        def chat(max_tokens: int) -> tuple[int, list[str]]:
            body = {"model": MODEL, "messages": HI, "max_tokens": max_tokens}
            answer = server.http.post(CHAT, json=body)
            return answer.status_code, left(dict(answer.headers))

        never, first, later, second = chat(500), chat(3), chat(190), chat(3)
    assert never == (429, ["5", "0ms"])
    assert (first[0], first[1][0]) == (200, "4")
    assert (later[0], later[1][0]) == (429, "4")
    assert (second[0], second[1][0]) == (200, "3")
    for _, (_, reset) in (first, later, second):
        assert reset == "1m0s" or (reset.endswith("s") and "m" not in reset)
