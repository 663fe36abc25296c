"""The double of TensorRT-LLM does what the notes on the API say, release by release.

Each test names the section of the notes that it stands for. Where releases differ, the expected
behaviour is the table's, and the last test sees to it that no row of the table goes untested.
"""

import asyncio
import dataclasses
import importlib
import importlib.util
import inspect
import json
import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.anyio

DOUBLES = Path(__file__).parent / "doubles"
NAME = "tensorrt_llm"
EOS, VOCAB = 2, 512
PROMPT = [11, 12, 13]
WAIT = 10.0
_loaded: dict[str, dict[str, ModuleType]] = {}


class Double:
    """One release's package and its table of facts."""

    def __init__(self, release: str) -> None:
        package = sys.modules[NAME]
        self.release = release
        self.version = package.__version__
        self.LLM = package.LLM
        self.SamplingParams = package.SamplingParams
        self.llmapi = importlib.import_module(f"{NAME}.llmapi")
        self.llm_args = importlib.import_module(f"{NAME}.llmapi.llm_args")
        self.facts = importlib.import_module(f"{NAME}.facts")
        self.token_maker = importlib.import_module(f"{NAME}.token_maker")
        self.plan = importlib.import_module(f"{NAME}.plan")
        self.RequestError = self.llmapi.RequestError

    def fact(self, name: str) -> Any:
        return self.facts.fact(name)

    def params(self, **fields: Any) -> Any:
        fields = {"end_id": EOS, "detokenize": False, **fields}
        return self.SamplingParams(**fields)

    def answer(self, prompt: list[int], num_tokens: int, **plan: Any) -> list[int]:
        maker = self.token_maker.TokenMaker(self.plan.Plan(**plan), VOCAB, EOS)
        return maker.answer(prompt, num_tokens)


def _modules() -> dict[str, ModuleType]:
    return {n: m for n, m in sys.modules.items() if n == NAME or n.startswith(f"{NAME}.")}


@contextmanager
def loaded(release: str) -> Iterator[Double]:
    """A release's package under its name; whatever had the name before has it again afterwards."""
    before = _modules()
    for name in before:
        del sys.modules[name]
    sys.modules.update(_loaded.get(release, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOUBLES)
        patch.setenv("TENSORRT_LLM_DOUBLE", release)
        importlib.import_module(NAME)
        made = Double(release)
        _loaded[release] = _modules()
        yield made
    for name in _modules():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture(params=["1.2", "1.3", "1.4"])
def double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Each release in a package of its own."""
    monkeypatch.delenv("TENSORRT_LLM_DOUBLE_SCRIPT", raising=False)
    monkeypatch.delenv("TENSORRT_LLM_DOUBLE_WORKER", raising=False)
    with loaded(request.param) as made:
        yield made


Start = Callable[..., Any]


@pytest.fixture
def start(double: Double, tmp_path: Path) -> Iterator[Start]:
    """Makes an LLM of a plan and arguments; all are shut down at the end."""
    made: list[Any] = []

    def start(plan: dict[str, Any] | None = None, **arguments: Any) -> Any:
        config = {"vocab_size": VOCAB, "eos_token_id": EOS, "max_position_embeddings": 1024}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "double.json").write_text(json.dumps(plan or {}))
        made.append(double.LLM(tmp_path, **{"skip_tokenizer_init": True, **arguments}))
        return made[-1]

    yield start
    for llm in made:
        if llm._executor is not None:
            llm._executor.unblock()
        llm.shutdown()


@pytest.fixture(scope="session")
def tokenizer_text() -> str:
    """tokenizer.json of a tokenizer whose tokens are bytes, and a special end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer.to_str()


END_OF_TEXT = 256


@pytest.fixture
def start_with_tokenizer(start: Start, tmp_path: Path, tokenizer_text: str) -> Start:
    """The same with a tokenizer, so that answers are text; a second end token is 300."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_text)
    ends = {"eos_token_id": [END_OF_TEXT, 300]}
    (tmp_path / "generation_config.json").write_text(json.dumps(ends))
    return lambda plan=None, **arguments: start(plan, skip_tokenizer_init=False, **arguments)


def ids(text: str) -> list[int]:
    """The bytes of ASCII text as the test's tokenizer numbers them."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [alphabet.index(letter) for letter in text.replace(" ", "Ġ")]


async def stream(result: Any) -> list[list[int]]:
    """What each response showed of the first output."""
    return [list(item.outputs[0].token_ids) async for item in result]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a thread
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Section 0 and 11: releases.


def test_the_version_is_the_columns(double: Double) -> None:
    assert double.version == double.fact("version")
    assert double.version.startswith(double.release)


def test_every_row_has_a_value_for_each_release(double: Double) -> None:
    names = [row.name for row in double.facts.TABLE]
    assert len(names) == len(set(names))
    assert all(len(row.values) == len(double.facts.RELEASES) for row in double.facts.TABLE)
    assert all(row.section[0].isdigit() for row in double.facts.TABLE)


def test_an_unknown_release_is_refused(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", "0.9")
    module = importlib.util.spec_from_file_location("facts", DOUBLES / NAME / "facts.py")
    assert module is not None
    with pytest.raises(ValueError, match=r"TENSORRT_LLM_DOUBLE='0\.9'"):
        module.loader.exec_module(importlib.util.module_from_spec(module))  # type: ignore[union-attr]


def test_8_1_the_engine_builder_can_be_imported_or_not(double: Double) -> None:
    name = f"{NAME}._tensorrt_engine"
    if double.fact("has_tensorrt_engine"):
        assert importlib.import_module(name).LLM is not double.LLM
    else:
        with pytest.raises(ModuleNotFoundError, match="_tensorrt_engine"):
            importlib.import_module(name)


def test_11_lora_config_is_in_one_module(double: Double) -> None:
    names = (f"{NAME}.lora_helper", f"{NAME}._torch.peft.lora.config")
    assert double.fact("lora_module") in names
    for name in names:
        if name == double.fact("lora_module"):
            config = importlib.import_module(name).LoraConfig(lora_dir=["a"], max_lora_rank=8)
            assert config.lora_dir == ["a"]
        else:
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)


# Section 1: the constructor.


def test_1_1_signature_of_the_constructor(double: Double) -> None:
    parameters = list(inspect.signature(double.LLM).parameters)
    assert parameters == [
        "model",
        "tokenizer",
        "tokenizer_mode",
        "skip_tokenizer_init",
        "trust_remote_code",
        "tensor_parallel_size",
        "dtype",
        "revision",
        "tokenizer_revision",
        "kwargs",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"build_config": {}}, "build_config.*_tensorrt_engine"),
        ({"quant_config": {}}, "quant_config.*_tensorrt_engine"),
        ({"max_batchsize": 4}, "got invalid argument: max_batchsize"),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"kv_cache_config": {"fraction": 0.5}}, "fraction"),
        ({"kv_cache_config": {"free_gpu_memory_fraction": 1.5}}, "free_gpu_memory_fraction"),
        ({"stream_interval": 0}, "stream_interval"),
        ({"cuda_graph_config": {"batch_sizes": [1, 8], "max_batch_size": 4}}, "batch_sizes"),
        ({"load_format": "torch"}, "load_format"),
        ({"speculative_config": {"max_draft_len": 2}}, "decoding_type"),
    ],
)
def test_1_2_wrong_arguments_are_value_errors(
    start: Start, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        start(**arguments)


FIELD_OWNERS = {
    "TorchLlmArgs": lambda d: d.llm_args.TorchLlmArgs,
    "KvCacheConfig": lambda d: d.llmapi.KvCacheConfig,
    "SchedulerConfig": lambda d: d.llmapi.SchedulerConfig,
    "CudaGraphConfig": lambda d: d.llmapi.CudaGraphConfig,
    "NGramDecodingConfig": lambda d: d.llmapi.NGramDecodingConfig,
}


@pytest.mark.parametrize("owner", FIELD_OWNERS)
def test_1_4_and_5_fields_and_defaults_are_the_columns(double: Double, owner: str) -> None:
    fields = FIELD_OWNERS[owner](double).model_fields
    rows = [
        row.name.split(".")[1] for row in double.facts.TABLE if row.name.startswith(f"{owner}.")
    ]
    assert rows
    for name in rows:
        expected = double.fact(f"{owner}.{name}")
        if expected is double.facts.ABSENT:
            assert name not in fields
        else:
            assert fields[name].default == expected


def test_5_2_an_absent_field_is_refused(double: Double, start: Start) -> None:
    config = {"waiting_queue_policy": "priority"}
    if double.fact("SchedulerConfig.waiting_queue_policy") is double.facts.ABSENT:
        with pytest.raises(ValueError, match="waiting_queue_policy"):
            start(scheduler_config=config)
    else:
        assert start(scheduler_config=config).args.scheduler_config.waiting_queue_policy


def test_1_3_sizes_that_are_none_are_resolved(start: Start) -> None:
    args = start().args
    assert (args.max_batch_size, args.max_beam_width, args.max_num_tokens) == (2048, 1, 8192)


def test_1_3_sub_configs_may_be_objects_or_dicts(double: Double, start: Start) -> None:
    made = double.llmapi.KvCacheConfig(free_gpu_memory_fraction=0.5, dtype="fp8")
    assert start(kv_cache_config=made).args == start(kv_cache_config=dict(made)).args
    policy = start(scheduler_config={"capacity_scheduler_policy": "MAX_UTILIZATION"}).args
    assert policy.scheduler_config.capacity_scheduler_policy == "MAX_UTILIZATION"


def test_1_4_fp8_cache_shows_in_the_quant_config(start: Start) -> None:
    config = start(kv_cache_config={"dtype": "fp8"}).args.quant_config
    assert config["kv_cache_quant_algo"] == "FP8"


def test_5_4_decoding_type_is_a_class_variable_or_a_field(double: Double) -> None:
    config = double.llmapi.DraftTargetDecodingConfig
    given = {"max_draft_len": 3, "speculative_model": "draft"}
    assert config(**given).decoding_type == "Draft_Target"
    if double.fact("decoding_type_is_field"):
        assert config(**given, decoding_type="Draft_Target").max_draft_len == 3
    else:
        with pytest.raises(ValueError, match="decoding_type"):
            config(**given, decoding_type="Draft_Target")


def test_5_4_a_dict_names_its_kind(double: Double, start: Start) -> None:
    made = {"decoding_type": "NGram", "max_draft_len": 3, "max_matching_ngram_size": 2}
    assert isinstance(
        start(speculative_config=made).args.speculative_config, double.llmapi.NGramDecodingConfig
    )
    alias = {"decoding_type": "Eagle", "max_draft_len": 3, "speculative_model_dir": "draft"}
    assert start(speculative_config=alias).args.speculative_config.speculative_model == "draft"


def test_5_4_ngram_size_must_be_set_where_its_default_is_0(double: Double) -> None:
    size = double.fact("NGramDecodingConfig.max_matching_ngram_size")
    config = double.llmapi.NGramDecodingConfig
    if size:
        assert config(max_draft_len=3).max_matching_ngram_size == size
    else:
        with pytest.raises(ValueError, match="max_matching_ngram_size"):
            config(max_draft_len=3)
    with pytest.raises(ValueError, match="max_draft_len"):
        config(max_matching_ngram_size=2)


@pytest.mark.parametrize("kind", ["Lookahead", "Medusa"])
def test_5_4_kinds_of_the_old_backend(double: Double, start: Start, kind: str) -> None:
    known = double.fact("decoding.Lookahead" if kind == "Lookahead" else "decoding.Medusa")
    assert hasattr(double.llmapi, f"{kind}DecodingConfig") == known
    with pytest.raises(ValueError, match="pytorch backend" if known else "invalid decoding_type"):
        start(speculative_config={"decoding_type": kind})


def test_5_4_eagle3_has_a_class_of_its_own_later(double: Double) -> None:
    assert hasattr(double.llmapi, "Eagle3DecodingConfig") == double.fact("decoding.Eagle3")


def test_1_5_an_llm_cannot_be_pickled(start: Start) -> None:
    with pytest.raises(RuntimeError, match="pickled"):
        pickle.dumps(start())


def test_6_3_shutdown_is_idempotent_and_seen(double: Double, start: Start) -> None:
    with start() as llm:
        assert llm._check_health()
    llm.shutdown()
    assert not llm._check_health()
    with pytest.raises(RuntimeError, match="LLM is shutting down"):
        llm.generate_async(PROMPT, double.params())


@pytest.mark.parametrize(
    ("kind", "message"),
    [("out_of_memory", "insufficient GPU memory"), ("bad_checkpoint", "worker returned error")],
)
def test_6_4_start_up_may_fail(start: Start, kind: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        start({"faults": [{"kind": kind}]})


def test_4_6_guided_decoding_without_a_tokenizer_does_not_start(start: Start) -> None:
    with pytest.raises(RuntimeError, match="worker returned error"):
        start(guided_decoding_backend="xgrammar")


# Section 2: generate_async.


def test_2_1_signature_of_generate_async(double: Double) -> None:
    expected = [
        "self",
        "inputs",
        "sampling_params",
        "lora_request",
        "prompt_adapter_request",
        "streaming",
        "kv_cache_retention_config",
        "disaggregated_params",
        "trace_headers",
        "_postproc_params",
        "scheduling_params",
        "cache_salt",
    ]
    later = [n for n in ("priority", "conversation_params") if double.fact(f"generate_async.{n}")]
    signature = inspect.signature(double.LLM.generate_async)
    assert list(signature.parameters) == expected + later
    assert not inspect.iscoroutinefunction(double.LLM.generate_async)


def test_2_1_priority_where_there_is_one(
    double: Double, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    llm = start()
    if not double.fact("generate_async.priority"):
        with pytest.raises(TypeError, match="priority"):
            llm.generate_async(PROMPT, double.params(), priority=0.9)
        return
    with pytest.raises(ValueError, match="priority"):
        llm.generate_async(PROMPT, double.params(), priority=1.5)
    with caplog.at_level(logging.WARNING, "tensorrt_llm"):
        llm.generate_async(PROMPT, double.params(), priority=0.9).result()
    assert "priority is ignored" in caplog.text


async def test_2_1_priority_orders_those_who_wait(double: Double, start: Start) -> None:
    if double.fact("SchedulerConfig.waiting_queue_policy") is double.facts.ABSENT:
        pytest.skip("the release has no such policy")
    llm = start(
        {"step_ms": 1}, max_batch_size=1, scheduler_config={"waiting_queue_policy": "priority"}
    )
    finished: list[str] = []

    async def one(name: str, priority: float) -> None:
        num_tokens = 300 if name == "first" else 5  # the others are there long before it ends
        params = double.params(max_tokens=num_tokens)
        await llm.generate_async(PROMPT, params, priority=priority)
        finished.append(name)

    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        for name, priority in (("first", 0.1), ("low", 0.2), ("high", 0.9)):
            tasks.create_task(one(name, priority))
            await turns(2)
    assert finished.index("high") < finished.index("low")


@pytest.mark.parametrize("inputs", [PROMPT, {"prompt_token_ids": PROMPT}], ids=["list", "dict"])
async def test_2_2_token_ids(double: Double, start: Start, inputs: Any) -> None:
    result = await start().generate_async(inputs, double.params(max_tokens=4))
    assert result.prompt is None
    assert result.prompt_token_ids == PROMPT
    assert result.outputs[0].token_ids == double.answer(PROMPT, 4)


@pytest.mark.parametrize("inputs", [{"text": "a"}, 7, ["a"]])
def test_2_2_other_inputs_are_type_errors(double: Double, start: Start, inputs: Any) -> None:
    with pytest.raises(TypeError):
        start().generate_async(inputs, double.params())


def test_2_3_what_raises_at_once(double: Double, start: Start) -> None:
    llm = start(max_num_tokens=8)
    with pytest.raises(TypeError, match="SamplingParams"):
        llm.generate_async(PROMPT, {"max_tokens": 3})
    with pytest.raises(ValueError, match="tokenizer is required to reset end_id"):
        llm.generate_async(PROMPT, double.SamplingParams())
    with pytest.raises(ValueError, match="max_beam_width"):
        llm.generate_async(PROMPT, double.params(use_beam_search=True, n=2))


def test_2_3_a_prompt_beyond_max_num_tokens(double: Double, start: Start) -> None:
    assert double.fact("overlong_prompt_raises_request_error")
    llm = start(max_num_tokens=8)
    with pytest.raises(double.RequestError, match="max_num_tokens"):
        llm.generate_async(list(range(9)), double.params())
    chunked = start(max_num_tokens=8, enable_chunked_prefill=True)
    done = chunked.generate_async(list(range(3, 30)), double.params(max_tokens=2)).result()
    assert done.outputs[0].token_ids == double.answer(list(range(3, 30)), 2)


async def test_2_3_a_prompt_without_room_fails_when_awaited(double: Double, start: Start) -> None:
    llm = start(max_seq_len=8)
    result = llm.generate_async(list(range(8)), double.params())
    with pytest.raises(double.RequestError, match="max_seq_len"):
        await result
    clamped = await llm.generate_async(list(range(3, 8)), double.params(max_tokens=100))
    assert clamped.outputs[0].length == 3
    no_limit = await llm.generate_async(list(range(3, 8)), double.params(max_tokens=None))
    assert no_limit.outputs[0].finish_reason == "length"


async def test_2_4_the_parameters_are_changed_in_place(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer()
    params = double.SamplingParams(stop="zz", max_tokens=1)
    await llm.generate_async(PROMPT, params)
    assert (params.end_id, params.pad_id) == (END_OF_TEXT, END_OF_TEXT)
    assert params.stop_token_ids == [300]
    assert params._get_stop_words() == [[300], ids("zz")]
    with pytest.raises(RuntimeError, match="not processed by tokenizer"):
        llm.generate_async(PROMPT, double.SamplingParams(stop="zz", end_id=END_OF_TEXT))


async def test_2_4_ignore_eos(double: Double, start: Start) -> None:
    llm = start({"eos_after": 2})
    ended = await llm.generate_async(PROMPT, double.params(max_tokens=5))
    went_on = await llm.generate_async(PROMPT, double.params(max_tokens=5, ignore_eos=True))
    assert ended.outputs[0].token_ids[2:] == [EOS]
    assert went_on.outputs[0].length == 5
    assert EOS in went_on.outputs[0].token_ids


# Section 3: results.


async def test_3_1_and_3_3_streaming_is_cumulative_in_one_object(
    double: Double, start: Start
) -> None:
    result = start().generate_async(PROMPT, double.params(max_tokens=5), streaming=True)
    expected = double.answer(PROMPT, 5)
    seen, diffs = [], []
    async for item in result:
        assert item is result
        seen.append(list(item.outputs[0].token_ids))
        diffs += item.outputs[0].token_ids_diff
    assert seen == [expected[:length] for length in range(1, 6)]
    assert diffs == expected
    assert result.finished
    assert result.outputs[0].finish_reason == "length"
    assert result.outputs[0].text == ""


async def test_3_1_without_streaming_there_is_one_response(double: Double, start: Start) -> None:
    llm = start()
    assert await stream(llm.generate_async(PROMPT, double.params(max_tokens=5))) == [
        double.answer(PROMPT, 5)
    ]


async def test_3_1_an_object_made_without_a_loop_cannot_be_awaited(
    double: Double, start: Start
) -> None:
    llm = start()
    made: list[Any] = []
    thread = threading.Thread(
        target=lambda: made.append(llm.generate_async(PROMPT, double.params()))
    )
    thread.start()
    thread.join()
    with pytest.raises(AssertionError, match="event loop"):
        await made[0]


def test_3_1_result_ignores_its_timeout(double: Double, start: Start) -> None:
    llm = start({"step_ms": 5})
    result = llm.generate_async(PROMPT, double.params(max_tokens=4))
    assert result.result(timeout=0.0001).finished


async def test_3_1_cached_tokens_are_whole_blocks(double: Double, start: Start) -> None:
    llm = start(kv_cache_config={"tokens_per_block": 4, "event_buffer_max_size": 16})
    prompt = list(range(3, 14))
    first = await llm.generate_async(prompt, double.params(max_tokens=1))
    again = await llm.generate_async(prompt, double.params(max_tokens=1))
    salted = await llm.generate_async(prompt, double.params(max_tokens=1), cache_salt="other")
    assert [r.cached_tokens for r in (first, again, salted)] == [0, 8, 0]
    events = [event["data"]["type"] for event in llm.get_kv_cache_events()]
    assert events == ["created", "stored", "stored"]
    assert [event async for event in llm.get_kv_cache_events_async()] == []


@pytest.mark.parametrize("interval", [2, 3])
async def test_3_3_stream_interval(double: Double, start: Start, interval: int) -> None:
    llm = start(stream_interval=interval)
    lengths = [
        len(tokens)
        for tokens in await stream(
            llm.generate_async(PROMPT, double.params(max_tokens=8), streaming=True)
        )
    ]
    expected = list(range(interval, 9, interval))
    first = [1] if double.fact("first_token_at_once") else []
    assert lengths == [*first, *expected, *([8] if expected[-1] != 8 else [])]


async def test_5_4_speculation_gives_several_tokens_at_once(double: Double, start: Start) -> None:
    llm = start({"tokens_per_step": 3})
    seen = await stream(llm.generate_async(PROMPT, double.params(max_tokens=8), streaming=True))
    assert [len(tokens) for tokens in seen] == [3, 6, 8]
    assert seen[-1] == double.answer(PROMPT, 8)


async def test_3_3_the_end_may_be_shorter_than_what_was_streamed(
    double: Double, start: Start
) -> None:
    llm = start({"say": [5, 6, 7, 8]})
    params = double.params(stop_token_ids=[7])
    seen = await stream(llm.generate_async(PROMPT, params, streaming=True))
    assert seen == [[5], [5, 6], [5, 6]]


async def test_3_3_a_stop_of_several_tokens_shrinks_the_list(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer({"say": ids("abcdef")})
    result = llm.generate_async(PROMPT, double.SamplingParams(stop=["cde"]), streaming=True)
    seen = [(len(r.outputs[0].token_ids), r.outputs[0].text) async for r in result]
    assert seen == [(1, "a"), (2, "ab"), (3, "abc"), (4, "abcd"), (2, "ab")]
    assert result.outputs[0].stop_reason == "cde"
    kept = double.SamplingParams(stop=["cde"], include_stop_str_in_output=True)
    assert (await llm.generate_async(PROMPT, kept)).outputs[0].text == "abcde"


async def test_3_3_text_holds_back_a_cut_character(
    double: Double, start_with_tokenizer: Start
) -> None:
    from tokenizers import Tokenizer

    llm = start_with_tokenizer()
    said = Tokenizer.from_file(str(llm._folder / "tokenizer.json")).encode("a日").ids
    llm = start_with_tokenizer({"say": said})
    result = llm.generate_async(PROMPT, double.SamplingParams(), streaming=True)
    diffs = [item.outputs[0].text_diff async for item in result]
    assert diffs == ["a", "", "", "日", ""]


async def test_3_4_other_outputs_keep_their_old_diffs(double: Double, start: Start) -> None:
    llm = start()
    params = double.params(n=2, temperature=1.0, max_tokens=3)
    result = llm.generate_async(PROMPT, params, streaming=True)
    naive: dict[int, list[int]] = {0: [], 1: []}
    changed = []
    before = [0, 0]
    async for item in result:
        lengths = [len(output.token_ids) for output in item.outputs]
        changed.append(sum(a != b for a, b in zip(lengths, before, strict=True)))
        before = lengths
        for output in item.outputs:
            naive[output.index] += output.token_ids_diff
    assert changed == [1] * 6
    assert any(naive[output.index] != output.token_ids for output in result.outputs)
    assert result.outputs[0].token_ids != result.outputs[1].token_ids
    assert [output.finish_reason for output in result.outputs] == ["length", "length"]


async def test_3_4_the_best_of_several_are_numbered_anew(double: Double, start: Start) -> None:
    params = double.params(n=2, best_of=5, temperature=1.5, max_tokens=4)
    result = await start().generate_async(PROMPT, params)
    scores = [output.cumulative_logprob for output in result.outputs]
    assert [output.index for output in result.outputs] == [0, 1]
    assert scores == sorted((o.cumulative_logprob for o in result._outputs), reverse=True)[:2]


async def test_3_5_the_end_token(double: Double, start: Start) -> None:
    expected = [5, 6, EOS] if double.fact("eos_in_token_ids") else [5, 6]
    output = (await start({"say": [5, 6]}).generate_async(PROMPT, double.params())).outputs[0]
    assert (output.token_ids, output.finish_reason) == (expected, "stop")
    assert output.stop_reason is None
    llm = start({"say": [5, 6], "eos_in_token_ids": False})
    output = (await llm.generate_async(PROMPT, double.params(logprobs=1))).outputs[0]
    assert (output.token_ids, len(output.logprobs)) == ([5, 6], 2)


async def test_3_5_stop_token_ids(double: Double, start: Start) -> None:
    llm = start({"say": [5, 6, 7]})
    for kept, expected in ((False, [5]), (True, [5, 6])):
        params = double.params(stop_token_ids=[6], include_stop_str_in_output=kept)
        output = (await llm.generate_async(PROMPT, params)).outputs[0]
        assert (output.token_ids, output.stop_reason) == (expected, 6)
        assert output.finish_reason == "stop"


async def test_3_5_a_stop_found_in_the_text_leaves_the_tokens(
    double: Double, start: Start, tmp_path: Path
) -> None:
    """The stop string's tokens never come, its text does: another token spells it."""
    from tokenizers import Tokenizer, decoders, models

    vocab = {"a": 0, "b": 1, "c": 2, "bc": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    llm = start({"say": [0, 3, 0, 0]}, skip_tokenizer_init=False)
    result = llm.generate_async([9], double.SamplingParams(stop="b"), streaming=True)
    seen = [(item.outputs[0].text, list(item.outputs[0].token_ids)) async for item in result]
    assert seen == [("a", [0]), ("a", [0, 3])]
    assert result.finished
    assert result.outputs[0].stop_reason == "b"


async def test_3_5_abort_ends_in_a_final_response(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1})
    params = double.params(n=2, temperature=1.0, max_tokens=900)
    result = llm.generate_async(PROMPT, params, streaming=True)
    await anext(result)
    result.abort()
    assert result.aborted()
    async with asyncio.timeout(WAIT):
        await result
    assert result.finished
    assert [output.finish_reason for output in result.outputs] == ["cancelled", "cancelled"]


async def test_3_5_abort_of_one_who_waits(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1}, max_batch_size=1)
    running = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    await anext(running)
    waiting = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    waiting.abort()
    async with asyncio.timeout(WAIT):
        await waiting
    assert waiting.outputs[0].finish_reason == "cancelled"
    assert waiting.outputs[0].token_ids == []
    running.abort()
    await running


async def test_3_5_abort_after_shutdown_fails(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1})
    result = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    llm.shutdown()
    with pytest.raises(AssertionError):
        result.abort()


async def test_3_5_an_error_does_not_end_the_iteration(double: Double, start: Start) -> None:
    """Who iterates again waits for ever."""
    llm = start({"faults": [{"kind": "request_error", "prompt_has": 99, "after": 1}]})
    result = llm.generate_async([99], double.params(max_tokens=4), streaming=True)
    await anext(result)
    with pytest.raises(double.RequestError, match="failed in the engine"):
        await anext(result)
    assert not result.finished
    again = asyncio.ensure_future(anext(result))
    other = await llm.generate_async(PROMPT, double.params(max_tokens=4))
    await turns()
    assert not again.done()
    again.cancel()
    assert other.outputs[0].token_ids == double.answer(PROMPT, 4)


async def test_3_5_timeout_of_the_engine(double: Double, start: Start) -> None:
    llm = start({"faults": [{"kind": "timeout", "after": 2}]})
    output = (await llm.generate_async(PROMPT, double.params())).outputs[0]
    assert (output.finish_reason, output.length) == ("timeout", 2)


async def test_3_6_logprobs(double: Double, start: Start) -> None:
    params = double.params(max_tokens=5, logprobs=2)
    output = None
    async for item in start().generate_async(PROMPT, params, streaming=True):
        output = item.outputs[0]
        assert len(output.logprobs) == output.length
        assert len(output.logprobs_diff) == 1
    assert output is not None
    for token, entry in zip(output.token_ids, output.logprobs, strict=True):
        assert len(entry) == 2
        assert entry[token].rank == 1
        assert entry[token].logprob == max(score.logprob for score in entry.values()) < 0
    total = sum(e[t].logprob for t, e in zip(output.token_ids, output.logprobs, strict=True))
    assert output.cumulative_logprob == pytest.approx(total)


async def test_3_6_the_sampled_token_may_be_missing(double: Double, start: Start) -> None:
    params = double.params(max_tokens=30, logprobs=1, temperature=1.5)
    output = (await start().generate_async(PROMPT, params)).outputs[0]
    pairs = zip(output.token_ids, output.logprobs, strict=True)
    missing = [token for token, entry in pairs if token not in entry]
    assert bool(missing) != double.fact("logprobs_always_have_sampled_token")


async def test_3_6_logprobs_0(double: Double, start: Start) -> None:
    output = (
        await start().generate_async(PROMPT, double.params(max_tokens=2, logprobs=0))
    ).outputs[0]
    if double.fact("logprobs_0_gives_sampled_token"):
        assert [list(entry) for entry in output.logprobs] == [[t] for t in output.token_ids]
    else:
        assert output.logprobs is None


async def test_3_6_prompt_logprobs(double: Double, start: Start) -> None:
    llm = start(kv_cache_config={"tokens_per_block": 4})
    prompt = list(range(3, 14))
    params = [double.params(max_tokens=1, prompt_logprobs=1) for _ in range(2)]
    first = (await llm.generate_async(prompt, params[0])).outputs[0].prompt_logprobs
    reused = (await llm.generate_async(prompt, params[1])).outputs[0].prompt_logprobs
    assert (len(first), len(reused)) == (11, 3)
    named = all(t in entry for t, entry in zip(prompt[1:], first[:-1], strict=True))
    assert named == double.fact("prompt_logprobs_always_have_prompt_token")


# Section 4: sampling parameters.


def test_4_1_fields_of_the_release(double: Double) -> None:
    fields = {field.name: field for field in dataclasses.fields(double.SamplingParams)}
    assert all(field.kw_only for field in fields.values())
    for name in ("logprobs_mode", "thinking_token_budget"):
        expected = double.fact(f"SamplingParams.{name}")
        assert (name in fields) == (expected is not double.facts.ABSENT)
        if name in fields:
            assert fields[name].default == expected
    params = double.SamplingParams()
    assert (params.max_tokens, params.n, params.temperature) == (32, 1, None)
    with pytest.raises(AttributeError):
        params.anything = 1
    with pytest.raises(TypeError):
        double.SamplingParams(5)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_p": 1.1},
        {"top_k": -1},
        {"temperature": -0.1},
        {"temperature": 1.0, "n": 3, "best_of": 2},
        {"best_of": 2},
        {"truncate_prompt_tokens": 0},
    ],
    ids=str,
)
def test_4_2_what_is_checked(double: Double, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(fields)[-1]):
        double.SamplingParams(**fields)


def test_4_2_one_guide(double: Double) -> None:
    guided = double.llmapi.GuidedDecodingParams(regex="a", json_object=True)
    with pytest.raises(ValueError, match="one guide"):
        double.SamplingParams(guided_decoding=guided)


@pytest.mark.parametrize(
    "fields",
    [{"n": 0}, {"max_tokens": -5}, {"repetition_penalty": -1.0}, {"min_p": 7.0}, {"logprobs": -2}],
    ids=str,
)
def test_4_2_what_is_not_checked(double: Double, fields: dict[str, Any]) -> None:
    made = double.SamplingParams(**fields)
    assert all(getattr(made, name) == value for name, value in fields.items())


def test_4_2_greedy_choices_can_be_allowed(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLLM_ALLOW_N_GREEDY_DECODING", "1")
    assert double.SamplingParams(n=2).best_of == 2


@pytest.mark.parametrize(
    ("fields", "greedy"),
    [
        ({}, True),
        ({"temperature": 0}, True),
        ({"temperature": 0.7, "top_k": 1}, True),
        ({"top_p": 0}, True),
        ({"temperature": 1.0}, False),
        ({"top_p": 1.0}, False),
        ({"top_k": 0}, False),
    ],
    ids=str,
)
async def test_4_3_the_greedy_rule(
    double: Double, start: Start, fields: dict[str, Any], greedy: bool
) -> None:
    output = (await start().generate_async(PROMPT, double.params(max_tokens=40, **fields))).outputs[
        0
    ]
    assert (output.token_ids == double.answer(PROMPT, 40)) == greedy


async def test_4_1_the_seed_is_constant_unless_given(double: Double, start: Start) -> None:
    llm = start()

    async def sampled(**fields: Any) -> list[int]:
        params = double.params(max_tokens=20, temperature=1.0, **fields)
        return (await llm.generate_async(PROMPT, params)).outputs[0].token_ids

    assert await sampled() == await sampled()
    assert await sampled() == await sampled(seed=double.fact("default_seed"))
    assert await sampled(seed=1) != await sampled(seed=2)
    assert await sampled(seed=1) == await sampled(seed=1)


SAMPLERS = ["auto", "TRTLLMSampler"]


def _honours(double: Double, sampler: str, name: str) -> bool:
    return sampler == "TRTLLMSampler" or double.fact(name)


def _sampler(double: Double, start: Start, sampler: str, plan: dict[str, Any]) -> Any:
    if double.fact("TorchLlmArgs.sampler_type") is double.facts.ABSENT:
        if sampler != "auto":
            pytest.skip("the release has one sampler")
        return start(plan)
    return start(plan, sampler_type=sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_penalties(double: Double, start: Start, sampler: str) -> None:
    """Each is so large that no token comes twice while there is another one."""
    honoured = _honours(double, sampler, "torch_sampler_honours_penalties")
    llm = _sampler(double, start, sampler, {"script": [5, 6, 7, 8]})
    for fields in (
        {"repetition_penalty": 100.0},
        {"presence_penalty": 30.0},
        {"frequency_penalty": 30.0},
    ):
        params = double.params(max_tokens=4, **fields)
        tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
        assert (len(set(tokens)) == 4) == honoured


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_bad_words(double: Double, start: Start, sampler: str) -> None:
    llm = _sampler(double, start, sampler, {"script": [5, 6]})
    params = double.params(max_tokens=20, bad_token_ids=[5])
    tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
    assert (5 not in tokens) == _honours(double, sampler, "torch_sampler_honours_bad_words")


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_no_repeat_ngram(double: Double, start: Start, sampler: str) -> None:
    llm = _sampler(double, start, sampler, {"script": [5]})
    params = double.params(max_tokens=6, no_repeat_ngram_size=2)
    tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
    pairs = list(pairwise(tokens))
    honoured = _honours(double, sampler, "torch_sampler_honours_no_repeat_ngram")
    assert (len(pairs) == len(set(pairs))) == honoured


async def test_4_4_min_tokens(double: Double, start: Start) -> None:
    llm = start({"say": [5]})
    output = (await llm.generate_async(PROMPT, double.params(min_tokens=4, max_tokens=9))).outputs[
        0
    ]
    assert output.length > 4
    assert EOS not in output.token_ids[:4]


async def test_4_4_min_tokens_with_ignore_eos_bans_another_token(
    double: Double, start: Start
) -> None:
    last = VOCAB - 1
    params = double.params(min_tokens=3, max_tokens=3, ignore_eos=True)
    output = (await start({"script": [last]}).generate_async(PROMPT, params)).outputs[0]
    banned = last not in output.token_ids
    assert banned == double.fact("min_tokens_with_ignore_eos_bans_last_token")


async def test_4_5_a_logits_processor_changes_logits_in_place(double: Double, start: Start) -> None:
    calls: list[tuple[Any, ...]] = []

    def processor(
        req_id: int, logits: Any, token_ids: Any, stream_ptr: Any, client_id: Any
    ) -> None:
        calls.append((tuple(logits.shape), token_ids, stream_ptr))
        logits[:, :, 40 + len(calls)] += 100.0

    params = double.params(max_tokens=3, logits_processor=processor)
    output = (await start().generate_async(PROMPT, params)).outputs[0]
    assert output.token_ids == [41, 42, 43]
    assert calls[0] == ((1, 1, VOCAB), [PROMPT], None)
    assert calls[2][1] == [[*PROMPT, 41, 42]]


async def test_4_5_a_processor_that_fails(double: Double, start: Start) -> None:
    def processor(*arguments: Any) -> None:
        raise KeyError("broken")

    llm = start({"step_ms": 1})
    other = llm.generate_async(PROMPT, double.params(max_tokens=200), streaming=True)
    await anext(other)
    with pytest.raises(double.RequestError, match="broken"):
        await llm.generate_async(PROMPT, double.params(logits_processor=processor))
    if double.fact("failing_processor_fails_all"):
        with pytest.raises(double.RequestError, match="broken"):
            await other
    else:
        await other


async def test_4_5_the_batchs_processor(double: Double, start: Start) -> None:
    def processor(ids: Any, logits: Any, token_ids: Any, stream_ptr: Any, client_ids: Any) -> None:
        for tensor in logits:
            tensor[..., 77] = 100.0

    llm = start(batched_logits_processor=processor)
    wanted = double.params(max_tokens=2, apply_batched_logits_processor=True)
    assert (await llm.generate_async(PROMPT, wanted)).outputs[0].token_ids == [77, 77]
    unwanted = double.params(max_tokens=2)
    assert 77 not in (await llm.generate_async(PROMPT, unwanted)).outputs[0].token_ids


async def test_4_7_embedding_bias(double: Double, start: Start) -> None:
    llm = start()
    bias = [0.0] * VOCAB
    bias[33] = 100.0
    params = double.params(max_tokens=2, embedding_bias=bias)
    assert (await llm.generate_async(PROMPT, params)).outputs[0].token_ids == [33, 33]
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params(embedding_bias=bias[1:]))


GUIDES = [
    ({"json": {"type": "object", "properties": {"n": {"type": "integer"}}}}, '{"n": 1}'),
    ({"json": '{"enum": ["yes", "no"]}'}, '"yes"'),
    ({"json_object": True}, '{"answer": 1}'),
    ({"regex": "(no|yes)[0-9]{2}"}, "no00"),
    ({"grammar": 'root ::= "left" | "right"'}, "left"),
]


@pytest.mark.parametrize(("guide", "text"), GUIDES, ids=[str(g) for g, _ in GUIDES])
async def test_4_6_a_guide_is_enforced_with_a_backend_and_dropped_without(
    double: Double, start_with_tokenizer: Start, guide: dict[str, Any], text: str
) -> None:
    for backend, enforced in (("xgrammar", True), ("llguidance", True), (None, False)):
        llm = start_with_tokenizer(guided_decoding_backend=backend)
        guided = double.llmapi.GuidedDecodingParams(**guide)
        output = (
            await llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))
        ).outputs[0]
        assert (output.text == text) == enforced


@pytest.mark.parametrize("guide", [{"json": {"type": "nothing"}}, {"regex": "("}, {"json": "{"}])
async def test_4_6_a_guide_that_does_not_compile(
    double: Double, start_with_tokenizer: Start, guide: dict[str, Any]
) -> None:
    llm = start_with_tokenizer(guided_decoding_backend="xgrammar")
    guided = double.llmapi.GuidedDecodingParams(**guide)
    result = llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))
    with pytest.raises(double.RequestError, match="Failed to compile"):
        await result


async def test_4_6_structural_tags_are_xgrammars(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer(guided_decoding_backend="llguidance")
    guided = double.llmapi.GuidedDecodingParams(structural_tag="{}")
    with pytest.raises(double.RequestError, match="structural_tag"):
        await llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))


# Section 5.2 and 6: scheduling, statistics, failure.


async def test_5_2_room_is_reserved_for_whole_answers(double: Double, start: Start) -> None:
    """With a large `max_tokens` requests run one after another, unless the policy is another."""
    for policy, together in (("GUARANTEED_NO_EVICT", 1), ("MAX_UTILIZATION", 4)):
        llm = start(
            {"kv_tokens": 600},
            enable_iter_perf_stats=True,
            scheduler_config={"capacity_scheduler_policy": policy},
        )
        params = [double.params(max_tokens=500) for _ in range(4)]
        await asyncio.gather(*(llm.generate_async([i], p).aresult() for i, p in enumerate(params)))
        most = max(
            r["inflightBatchingStats"]["numScheduledRequests"] for r in llm.get_stats(timeout=WAIT)
        )
        assert most == together


async def test_6_1_statistics_come_once_and_only_when_asked_for(
    double: Double, start: Start
) -> None:
    assert start().get_stats(timeout=0) == []
    llm = start(enable_iter_perf_stats=True, max_batch_size=8)
    await llm.generate_async(PROMPT, double.params(max_tokens=4))
    records = [record async for record in llm.get_stats_async(timeout=0.01)]
    assert [record["iter"] for record in records] == [1, 2, 3, 4]
    assert records[0]["inflightBatchingStats"]["numCtxTokens"] == len(PROMPT)
    assert records[3]["numCompletedRequests"] == 1
    assert records[0]["kvCacheStats"]["tokensPerBlock"] == 32
    assert llm.get_stats(timeout=0) == []


async def test_6_1_statistics_may_stay_empty(double: Double, start: Start) -> None:
    llm = start({"stats_stay_empty": True}, enable_iter_perf_stats=True)
    await llm.generate_async(PROMPT, double.params(max_tokens=4))
    assert llm.get_stats(timeout=0) == []


async def test_6_1_waiting_for_statistics_may_hold_up_the_loop(
    double: Double, start: Start
) -> None:
    llm = start(enable_iter_perf_stats=True)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    task = asyncio.ensure_future(tick())
    assert [record async for record in llm.get_stats_async(timeout=0.05)] == []
    blocked = ticks == 0
    task.cancel()
    assert blocked == double.fact("stats_block_the_loop")


async def test_6_5_a_dead_worker(double: Double, start: Start) -> None:
    """Nobody who waits is told and health stays good, where the worker is not watched."""
    llm = start({"faults": [{"kind": "worker_dies", "prompt_has": 99, "after": 2}]})
    waiting = asyncio.ensure_future(llm.generate_async([99], double.params()).aresult())
    await until(lambda: llm._executor._dead)
    await turns()
    if double.fact("worker_is_watched"):
        with pytest.raises(RuntimeError, match="died"):
            await waiting
        assert not llm._check_health()
    else:
        assert not waiting.done()
        assert llm._check_health()
        waiting.cancel()
    with pytest.raises(RuntimeError, match="died"):
        llm.generate_async(PROMPT, double.params())
    with pytest.raises(RuntimeError, match="LLM is shutting down"):
        llm.generate_async(PROMPT, double.params())
    assert not llm._check_health()


def test_6_3_shutdown_may_block_after_a_crash(double: Double, start: Start) -> None:
    llm = start()
    executor = llm._executor
    executor.kill_worker()
    executor._host._thread.join(WAIT)
    blocked = threading.Event()
    wait = executor._unblocked.wait
    executor._unblocked.wait = lambda timeout: (blocked.set(), wait(timeout))
    thread = threading.Thread(target=llm.shutdown)
    thread.start()
    if double.fact("shutdown_blocks_after_crash"):
        assert blocked.wait(WAIT)
        assert thread.is_alive()
        executor.unblock()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert blocked.is_set() == double.fact("shutdown_blocks_after_crash")


async def test_6_5_an_error_of_the_engine_waits_for_the_next_submit(
    double: Double, start: Start
) -> None:
    llm = start({"faults": [{"kind": "engine_error", "prompt_has": 99, "message": "lost"}]})
    llm.generate_async([99], double.params(max_tokens=1))
    await until(lambda: bool(llm._executor._errors))
    assert llm._check_health()
    with pytest.raises(RuntimeError, match="lost"):
        llm.generate_async(PROMPT, double.params())
    assert not llm._check_health()


async def test_6_5_a_cuda_error_fails_everything_as_request_errors(
    double: Double, start: Start
) -> None:
    llm = start({"step_ms": 1, "faults": [{"kind": "cuda_error", "prompt_has": 99}]})
    other = llm.generate_async(PROMPT, double.params(max_tokens=500), streaming=True)
    await anext(other)
    text = "CUDA error: an illegal memory access was encountered"
    for result in (llm.generate_async([99], double.params()), other):
        with pytest.raises(double.RequestError, match=text):
            await result
    with pytest.raises(double.RequestError, match=text):
        await llm.generate_async(PROMPT, double.params())
    assert llm._check_health()


async def test_6_5_a_hang_is_not_detected(double: Double, start: Start) -> None:
    llm = start({"faults": [{"kind": "hang", "prompt_has": 99}]})
    result = llm.generate_async([99], double.params())
    hanging = asyncio.ensure_future(result.aresult())
    await until(lambda: llm._executor._host._inbox.empty())
    await turns()
    assert not hanging.done()
    assert llm._check_health()
    llm.shutdown()
    await hanging
    assert result.outputs[0].finish_reason is not None


async def test_a_fault_with_a_fuse_strikes_once(
    double: Double, start: Start, tmp_path: Path
) -> None:
    fault = {"kind": "request_error", "once": str(tmp_path / "burnt")}
    llm = start({"faults": [fault]})
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params())
    assert (await llm.generate_async(PROMPT, double.params(max_tokens=2))).finished


async def test_a_fault_may_wait_for_a_file(double: Double, start: Start, tmp_path: Path) -> None:
    llm = start({"faults": [{"kind": "request_error", "when": str(tmp_path / "now")}]})
    assert (await llm.generate_async(PROMPT, double.params(max_tokens=2))).finished
    (tmp_path / "now").touch()
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params())


# The worker as a process.


@pytest.mark.skipif(sys.platform == "win32", reason="the package runs on Linux alone")
async def test_6_4_the_worker_may_be_a_process_that_can_be_killed(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    if double.release != "1.2":
        pytest.skip("the process is the same in all releases")
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    llm = start({"step_ms": 1})
    result = llm.generate_async(PROMPT, double.params(max_tokens=4), streaming=True)
    assert (await stream(result))[-1] == double.answer(PROMPT, 4)
    endless = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    await anext(endless)
    llm._executor._host._process.kill()
    await until(lambda: llm._executor._dead)
    assert llm._check_health()
    with pytest.raises(RuntimeError, match="died"):
        llm.generate_async(PROMPT, double.params())


def test_6_4_the_packages_variable_keeps_the_worker_in_this_process(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
    llm = start()
    assert not hasattr(llm._executor._host, "_process")


# The model.


async def test_streams_beside_each_other_are_not_mixed_up(double: Double, start: Start) -> None:
    llm = start(max_batch_size=8)
    prompts = [[number, 7, 8] for number in range(3, 35)]
    answers = await asyncio.gather(
        *(
            stream(llm.generate_async(prompt, double.params(max_tokens=12), streaming=True))
            for prompt in prompts
        )
    )
    finals = [answer[-1] for answer in answers]
    assert finals == [double.answer(prompt, 12) for prompt in prompts]
    assert len({tuple(tokens) for tokens in finals}) == len(prompts)


async def test_the_environment_wins_over_the_folder(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_SCRIPT", '{"say": [8, 9]}')
    llm = start({"say": [5]})
    assert (await llm.generate_async(PROMPT, double.params())).outputs[0].token_ids[:2] == [8, 9]


def test_a_plan_with_a_misspelt_key_is_refused(start: Start) -> None:
    with pytest.raises(ValueError, match="sya"):
        start({"sya": [5]})


@settings(max_examples=50, deadline=None)
@given(
    prompt=st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=20),
    cut=st.integers(0, 12),
    plan=st.sampled_from([{}, {"script": (5, 6, 7, 8)}, {"say": (5, 6, 5, 5, 6, 7)}]),
)
def test_an_answer_goes_on_where_it_was_cut(
    prompt: list[int], cut: int, plan: dict[str, Any]
) -> None:
    with loaded("1.2") as double:
        model = double.token_maker.TokenMaker(double.plan.Plan(**plan), VOCAB, EOS)
    whole = model.answer(prompt, 12)
    rest = model.answer(prompt + whole[:cut], 12 - cut) if EOS not in whole[:cut] else []
    assert whole == whole[:cut] + rest


def test_no_row_of_the_table_goes_untested(double: Double) -> None:
    text = Path(__file__).read_text()
    untested = [
        row.name
        for row in double.facts.TABLE
        if row.name not in text
        and row.name.split(".")[0] not in FIELD_OWNERS
        and not row.name.startswith(("SamplingParams.", "generate_async."))
    ]
    assert untested == []
