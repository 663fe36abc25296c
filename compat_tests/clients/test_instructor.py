"""instructor, in each way of asking for structure that it knows for OpenAI."""

import pytest

instructor = pytest.importorskip("instructor")

import openai
from pydantic import BaseModel

from compat_tests.conftest import MODEL


class User(BaseModel):
    """Somebody's name and age."""

    name: str
    age: int


MODES = [
    instructor.Mode.TOOLS,
    instructor.Mode.TOOLS_STRICT,
    instructor.Mode.JSON,
    instructor.Mode.JSON_SCHEMA,
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_user_is_read_from_a_text(server, mode):
    client = instructor.from_openai(
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0), mode=mode
    )

    user = client.chat.completions.create(
        model=MODEL,
        response_model=User,
        max_retries=0,
        temperature=0,
        max_tokens=64,
        messages=[{"role": "user", "content": "Extract: Jason is 25 years old."}],
    )

    assert user.model_dump() == {"name": "Jason", "age": 25}


def test_a_partial_user_grows(server):
    client = instructor.from_openai(
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0),
        mode=instructor.Mode.TOOLS,
    )

    partial = list(
        client.chat.completions.create_partial(
            model=MODEL,
            response_model=User,
            temperature=0,
            max_tokens=64,
            messages=[{"role": "user", "content": "Extract: Jason is 25 years old."}],
        )
    )

    assert len(partial) > 1
    assert (partial[-1].name, partial[-1].age) == ("Jason", 25)
