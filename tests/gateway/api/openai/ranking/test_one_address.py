"""Chat, embeddings and rerank at one address: what retrieval needs, as one application does it."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openai
import pytest

from gateway.settings.schema import Settings
from gateway.settings.several_models import with_general_settings
from runtime.llama_library.installed import installed_families
from tests.kit.chat.answers import RERANK, error_of, good
from tests.kit.models.tiny_encoder import write_tiny_encoder
from tests.kit.models.tiny_model import write_tiny_model
from tests.kit.serving import RunningServer, running_server

if "llama.cpp" not in installed_families():
    pytest.skip("no library here ranks", allow_module_level=True)

DOCUMENTS = [
    f"{animal} {verb} on the mat" for animal in ("cat", "dog", "fox") for verb in ("sat", "ran")
]
QUERY = "what is the cat?"


def paths_in(folder: Path) -> dict[str, str]:
    return {name: str(folder / f"{name}.gguf") for name in ("chat", "embed", "rank")}


def three_models(folder: Path) -> Settings:
    write_tiny_model(folder / "chat.gguf")
    write_tiny_encoder(folder / "embed.gguf", "mean", name="e5-tiny")
    write_tiny_encoder(folder / "rank.gguf", "rank")
    llama_cpp = {"num_threads": 1, "use_extra_bufts": False}
    document: dict[str, Any] = {
        "models": {name: {"name_or_path": path} for name, path in paths_in(folder).items()},
        "engine": {"num_kv_tokens": 4096, "llama_cpp": llama_cpp},
    }
    return msgspec.convert(with_general_settings(document), Settings)


def retrieved(client: openai.OpenAI) -> list[str]:
    """The three documents that are the most like the query."""
    of_query = client.embeddings.create(
        model="embed", input=QUERY, extra_body={"input_type": "query"}
    )
    of_documents = client.embeddings.create(
        model="embed", input=DOCUMENTS, extra_body={"input_type": "document"}
    )
    vectors = np.array([each.embedding for each in of_documents.data])
    order = np.argsort(-vectors @ np.array(of_query.data[0].embedding), kind="stable")
    return [DOCUMENTS[index] for index in order[:3]]


def best_of(server: RunningServer, documents: list[str]) -> str:
    body = {"model": "rank", "query": QUERY, "documents": documents, "top_n": 1}
    answer = good(server.http.post(RERANK, json=body))
    assert answer["model"] == "rank"
    text: str = answer["results"][0]["document"]["text"]
    return text


@pytest.mark.slow
def test_an_answer_from_documents(tmp_path: Path):
    """The embedding model ranks as it embeds, the reranker otherwise; and each is asked for its own
    work by its own name."""
    with (
        running_server(three_models(tmp_path), model_path=paths_in(tmp_path)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        found = retrieved(client)
        by_vectors = good(
            server.http.post(
                RERANK, json={"model": "embed", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
            )
        )
        assert [each["document"]["text"] for each in by_vectors["results"]] == found
        best = best_of(server, found)
        assert best in found
        answer = client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": f"{best}\n\n{QUERY}"}],
            max_completion_tokens=8,
        )
        assert answer.model == "chat"
        assert answer.choices[0].message.content
        wrong = server.http.post(RERANK, json={"model": "chat", "query": "a", "documents": ["b"]})
        assert error_of(wrong)["param"] == "model"
