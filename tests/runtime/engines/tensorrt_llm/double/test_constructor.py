"""Sections 1 and 5 of the notes: arguments and fields, and how an LLM starts and ends."""

import inspect
import pickle
from typing import Any

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import FIELD_OWNERS, PROMPT, Double, Start


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
