"""The log of a running server gets another level, another form, and other lines."""

import json


def test_level_form_and_lines_change(serving):
    with serving({"server.watch_files": False}) as server:

        def use(**log: object) -> None:
            changed = {f"log.{name}": value for name, value in log.items()}
            server.write({"server.watch_files": False, **changed})
            assert server.reload()["errors"] == []

        def say(name: str) -> None:
            server.http.get("/health/live", headers={"X-Client-Request-Id": f"probe-{name}"})
            messages = [{"role": "user", "content": f"text-{name}"}]
            server.chat(messages=messages).raise_for_status()

        use()
        say("plain")
        use(level="debug")
        say("debug")
        use(prompts=True)
        say("prompts")
        use(access=False)
        say("silent")
        use(format="console", level="debug", prompts=True)
        say("console")
        server.server.process.terminate()
        _, log = server.server.ended()
    lines = log.splitlines()

    def with_text(text: str) -> list[str]:
        return [line for line in lines if text in line]

    assert not with_text("probe-plain")
    assert not with_text("text-plain")
    assert with_text("probe-debug")
    assert not with_text("text-debug")
    assert not with_text("probe-prompts")
    assert with_text("text-prompts")
    assert not with_text("probe-silent")
    assert not with_text("text-silent")
    assert all(json.loads(line)["event"] for line in with_text("text-prompts"))
    assert with_text("text-console")
    assert not with_text("text-console")[0].startswith("{")
