"""Adapters in the embedded engine: each sequence gets what a model with merged weights says."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppLoRAConfig, LoRAAdapter
from runtime.engines.base import SequenceOutput
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.errors import InvalidRequest
from runtime.messages.request import Request
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import ONE_THREAD, a_request, engine_answers, needs_llama_library
from tests.kit.models.tiny_adapter import write_tiny_adapter
from tests.kit.models.tiny_model import write_tiny_model

needs_llama_library()

NAMES = ("", "one", "two", "half")
NEAR = 0.03
PROMPT = [ord(each) for each in "the quick brown fox jumps over the lazy dog"]


def start(path: Path, adapters: dict[str, str | LoRAAdapter], **more: object) -> LlamaCppEngine:
    lora = LlamaCppLoRAConfig(adapters=adapters)
    llama_cpp = msgspec.structs.replace(ONE_THREAD, lora=lora)
    given = {"max_num_seqs": 8, "num_kv_tokens": 2048, **more}
    config = EngineConfig(llama_cpp=llama_cpp, **given)  # type: ignore[arg-type]
    return LlamaCppEngine(config, str(path), load_tokenizer(str(path)))


def request(request_id: str, lora: str, prompt: list[int], **more: object) -> Request:
    fields = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True, "logprobs": 3, **more}
    return a_request(request_id, lora=lora, prompt_token_ids=prompt, **fields)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The base model, its adapters, and for each adapter a model with merged weights."""
    folder = tmp_path_factory.mktemp("adapters")
    changes = {
        "one": write_tiny_adapter(folder / "one.gguf", seed=1, rank=8),
        "two": write_tiny_adapter(folder / "two.gguf", seed=2, rank=16, parts=("attn_v", "ffn_up")),
    }
    changes["half"] = {name: each / 2 for name, each in changes["one"].items()}
    found = {"": write_tiny_model(folder / "base.gguf")}
    for name, each in changes.items():
        found[name] = write_tiny_model(folder / f"merged-{name}.gguf", changes=each)
        found[f"{name} adapter"] = folder / f"{'one' if name == 'half' else name}.gguf"
    return found


@pytest.fixture(scope="module")
def adapted(files: dict[str, Path]) -> Iterator[LlamaCppEngine]:
    one, two = str(files["one adapter"]), str(files["two adapter"])
    half = LoRAAdapter(path=one, scale=0.5)
    engine = start(files[""], {"one": one, "two": two, "half": half})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def merged(files: dict[str, Path]) -> Iterator[dict[str, LlamaCppEngine]]:
    engines = {name: start(files[name], {}) for name in NAMES}
    yield engines
    for engine in engines.values():
        engine.close()


def assert_same(found: SequenceOutput, expected: SequenceOutput) -> None:
    """The same tokens, as likely. After a tie that rounding decides, answers may part."""
    assert len(found.token_ids) == len(expected.token_ids)
    pairs = zip(found.token_ids, expected.token_ids, strict=True)
    chances = zip(found.logprobs or (), expected.logprobs or (), strict=True)
    for (token, other), (own, others) in zip(pairs, chances, strict=True):
        assert own.logprob == pytest.approx(others.logprob, abs=NEAR)
        if token != other:
            assert dict(own.top)[other] == pytest.approx(own.logprob, abs=NEAR)
            return


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_says_what_merged_weights_say(name: str, adapted, merged):
    expected = engine_answers(merged[name], request("r", "", PROMPT))["r"]
    found = engine_answers(adapted, request("r", name, PROMPT))["r"]

    assert_same(found, expected)


def test_adapters_differ(merged):
    """Otherwise the other tests would say nothing."""
    answers = {
        tuple(engine_answers(merged[name], request("r", "", PROMPT))["r"].token_ids)
        for name in NAMES
    }
    assert len(answers) == len(NAMES)


WISHES = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, len(PROMPT)),  # how much of the prompt all have in common
        st.integers(1, 60),
        st.integers(1, 8),
    ),
    min_size=2,
    max_size=7,
)


@given(wishes=WISHES, budget=st.sampled_from([8, 32, 512]))
@settings(max_examples=25)
def test_a_mixed_batch_gives_each_what_it_gets_alone(adapted, merged, wishes, budget):
    """Prompts with common beginnings share nothing across adapters, whatever the cache holds."""
    requests = [
        request(str(number), name, PROMPT[:shared] + [65 + number] * length, max_tokens=tokens)
        for number, (name, shared, length, tokens) in enumerate(wishes)
    ]
    adapted._scheduler._max_num_batched_tokens = budget
    together = engine_answers(adapted, *requests)
    for each in requests:
        plain = msgspec.structs.replace(each, lora="")
        assert_same(
            together[each.request_id],
            engine_answers(merged[each.lora], plain)[each.request_id],
        )
    adapted._kv_cache.check_integrity()


def test_prefixes_are_shared_within_an_adapter_only(adapted):
    prompt = [200, *PROMPT]
    for name in NAMES:
        first, second = (
            engine_answers(adapted, request("r", name, prompt))["r"].num_cached_tokens
            for _ in range(2)
        )
        assert (first, second) == (0, len(prompt) - 1)


def test_a_preempted_sequence_goes_on_with_its_adapter(adapted, merged):
    wanted = request("r", "one", PROMPT)
    adapted.add(wanted)
    first = [adapted.step()[0] for _ in range(5)]
    adapted.preempt("r")
    [resumed] = adapted.take_preempted()
    rest = engine_answers(adapted, resumed)["r"]

    assert resumed.lora == "one"
    token_ids = [token for each in first for token in each.token_ids] + rest.token_ids
    expected = engine_answers(merged["one"], request("r", "", PROMPT))["r"]
    assert token_ids == expected.token_ids


@pytest.mark.parametrize("lora", ["three", "One", "one "])
def test_an_unknown_adapter_is_refused_by_name(adapted, lora):
    for refuse in (adapted.prepare, adapted.add):
        with pytest.raises(InvalidRequest, match="There is no adapter") as caught:
            refuse(request("r", lora, PROMPT))
        assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_no_stream_waits_for_more_than_one_turn_of_each_other(adapted):
    """Nor behind a long prompt."""
    for number, name in enumerate(("one", "two", "half", "")):
        adapted.add(request(f"s{number}", name, PROMPT, max_tokens=30))
    while any(seq.num_remaining_tokens > 1 for seq in adapted._scheduler.sequences()):
        adapted.step()
    adapted.add(request("long", "two", [66] * 800, max_tokens=1))
    heard = []
    while adapted.num_running:
        heard.append({output.request_id for output in adapted.step()})
    streams = [f"s{number}" for number in range(4)]
    while len(heard) >= 4 and set(streams) <= set().union(*heard):
        assert set().union(*heard[:4]) >= set(streams)
        heard = heard[1:]
