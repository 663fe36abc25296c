"""The fields of other servers that an endpoint does not declare, each with its fate: one table for
all endpoints.

They are those of vLLM, SGLang, llama.cpp, TGI, Ollama, LM Studio, TensorRT-LLM, KoboldCpp, mlx-lm,
text-generation-webui and transformers, and of Anthropic's, Azure's, Cohere's, DeepSeek's,
Fireworks', Gemini's, Groq's, Mistral's, OpenRouter's, Perplexity's, Together's and xAI's APIs.
"""

from collections.abc import Mapping

from gateway.api.openai.fields.fates import Alias, Fate, Hint, Refused
from gateway.api.openai.fields.spreads import SPREADS
from gateway.api.openai.translate.unsupported import NO_VERBOSITY

_LIMIT = Alias(("max_output_tokens", "max_tokens", "max_new_tokens"), (-1,))
_STOP = Alias(("stop",))
_BUDGET = Alias(("thinking_token_budget",), (-1,))
_CHOICES = Alias(("n",))

ALIASES: Mapping[str, Alias] = {
    **dict.fromkeys(
        ("n_predict", "num_predict", "max_new_tokens", "max_output_tokens", "max_tokens_to_sample"),
        _LIMIT,
    ),
    "max_completion_tokens": _LIMIT,
    "max_tokens": _LIMIT,
    **dict.fromkeys(
        ("stop_sequences", "stop_sequence", "stop_words", "stop_strings", "stopping_strings"), _STOP
    ),
    "custom_stopping_strings": _STOP,
    "min_new_tokens": Alias(("min_tokens",)),
    "min_length": Alias(("min_tokens",)),
    "random_seed": Alias(("seed",)),
    "sampler_seed": Alias(("seed",), (-1,)),
    "n_cmpl": _CHOICES,
    "num_return_sequences": _CHOICES,
    **dict.fromkeys(("thinking_budget", "reasoning_budget", "reasoning_budget_tokens"), _BUDGET),
    "regex": Alias(("guided_regex",), ("",)),
    "ebnf": Alias(("guided_grammar",), ("",)),
    "grammar_string": Alias(("guided_grammar",), ("",)),
    "json_schema": Alias(("guided_json",), ("",)),
    "no_stop_trim": Alias(("include_stop_str_in_output",)),
    "ban_eos_token": Alias(("ignore_eos",)),
    "bypass_eos": Alias(("ignore_eos",)),
    "return_full_text": Alias(("echo",), (False,)),
    "truncate": Alias(("truncate_prompt_tokens",), (False,)),
    "extra_key": Alias(("cache_salt",), ("",)),
    "prompt_cache_isolation_key": Alias(("cache_salt",), ("",)),
    "output_dimension": Alias(("dimensions",)),
    **dict.fromkeys(("task", "task_type", "prompt_name"), Alias(("input_type",), ("",))),
    "max_doc_length": Alias(("max_tokens_per_doc",)),
}
"""Names for what is here under another name."""

_OWN_WAY = "Send its fields at the top level of the body."
_ADAPTER = Refused(([], {}), "Name the adapter in `model`.")
_PENALTY = Refused((1,), "Use `repetition_penalty`.")
_ONLY_TEXT = Refused(([], {}, ""), "This server takes text.")
_STORED_NOWHERE = Refused(([],), "It is for `/v1/responses`: send everything in the request here.")
_NO_SEARCH = Refused((False, [], {}, ""), "This server does not search.")
_LOGPROBS = Refused((False, 0, -1, []), "Use `logprobs`, in chats with `top_logprobs`.")


def _same(refused: Refused, names: str) -> Mapping[str, Refused]:
    return dict.fromkeys(names.split(), refused)


REFUSED: Mapping[str, Refused] = {
    **_same(
        Refused((False,)),
        """
        use_beam_search early_stopping watermark raw raw_output return_images return_tokens
        decoder_input_details details post_sampling_probs penalize_nl reasoning_in_content
        reasoning_split safe_prompt deferred dynamic_temperature guided_json_object trim_stop
        echo return_hidden_states return_context_logits return_generation_logits
        return_encoder_output return_routed_experts return_related_questions
        """,
    ),
    **_same(
        Refused((True,)),
        """
        skip_special_tokens spaces_between_special_tokens detokenize separate_reasoning
        stream_reasoning parse_tool_calls add_bos_token exclude_input_from_output
        """,
    ),
    "do_sample": Refused((True,), "Send `temperature: 0` for the likeliest tokens."),
    **_same(
        Refused((0,)),
        """
        dry_multiplier mirostat mirostat_mode xtc_probability dynatemp_range top_a
        smoothing_factor no_repeat_ngram_size penalty_alpha max_tokens_second top_p_min
        beam_search_diversity_rate rep_pen_slope encoder_no_repeat_ngram_size epsilon_cutoff
        eta_cutoff diversity_penalty
        """,
    ),
    **_same(
        Refused((0, -1)),
        """
        top_n_sigma nsigma t_max_predict_ms t_max_prompt_ms max_time top_n_tokens
        prompt_ignore_length
        """,
    ),
    **_same(Refused((0, 1)), "min_keep"),
    **_same(
        Refused((1,)),
        """
        best_of length_penalty typical_p typical typ_p tfs_z tfs guidance_scale num_beams
        num_beam_groups beam_width top_p_decay
        """,
    ),
    **_same(Refused((-1,)), "repeat_last_n penalty_last_n rep_pen_range repetition_context_size"),
    **_same(_PENALTY, "repeat_penalty rep_pen"),
    **_same(
        Refused(([], {}, "")),
        """
        allowed_token_ids bad_words bad bad_token_ids banned_tokens embedding_bias vllm_xargs
        extra_args samplers sampler_order preamble memory system system_prompt
        previous_input_messages connectors plugins integrations mcp_servers transforms
        structural_tag output_format output_config container preset custom_token_bans
        custom_logit_processor custom_params stop_regex logits_processors logits_processor_args
        logit_biases documents sampler_priority negative_prompt negative_prompt_ids
        bad_words_ids force_words_ids suppress_tokens begin_suppress_tokens sequence_bias
        exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id eos_token_id
        top_p_reset_ids input_prefix input_suffix input_extra response_fields guideline
        prompt_mode guardrails safety_model safetySettings safety_settings
        """,
    ),
    **_same(
        Refused(),
        """
        end_id pad_id max_length max_length_total chat_template custom_chat_template
        instruction_template character mode template tool_prompt prompt_template
        late_chunking output_dtype embedding_types prompt_truncate_len
        prompt_truncate_length context_overflow_policy guided_whitespace_pattern
        whitespace_pattern response_schema
        """,
    ),
    **_same(
        Refused(([], {})),
        """
        mm_processor_kwargs media_io_kwargs session_params fallback_models
        """,
    ),
    **_same(Refused(([], {}), "Ask for one model in `model`."), "models"),
    "add_special_tokens": Refused(),
    **_same(Refused((False, True)), "parallel_tool_calls add_generation_prompt"),
    "tool_choice": Refused(("none", "auto")),
    "function_call": Refused(("none", "auto")),
    "modalities": Refused((["text"],)),
    "truncation": Refused(("disabled",)),
    "top_logprobs": Refused((0,), "Send `logprobs`."),
    "context_length_exceeded_behavior": Refused(("truncate",), "A limit is shortened to the room."),
    "truncation_side": Refused(("left",)),
    "response_role": Refused(("assistant",)),
    "reasoning_format": Refused(
        ("parsed", "auto", "deepseek"), "Send `include_reasoning: false` to hide the reasoning."
    ),
    "reasoning_effort": Refused(),
    "embed_dtype": Refused(("float32",)),
    "endianness": Refused(("native", "little")),
    "safety_mode": Refused(("NONE", "OFF")),
    "thinking_token_budget": Refused(),
    **_same(
        _LOGPROBS,
        """
        n_probs return_logprob logprob_start_len top_logprobs_num token_ids_logprob
        logprob_token_ids logprobs_mode response_logprobs
        """,
    ),
    **_same(
        _ADAPTER,
        """
        lora lora_path lora_request lora_adapter lora_adapters lora_id lora_name lora_config
        lora_scale lora_weights adapter adapters adapter_id adapter_source
        """,
    ),
    **_same(
        Refused(({}, []), _OWN_WAY),
        """
        options parameters sampling_params generation_config generationConfig extra_body
        extra_params
        """,
    ),
    **_same(_ONLY_TEXT, "images image_data image video_data audio_data prompt_embeds input_embeds"),
    **_same(Refused(([],), "Send token ids in `prompt`."), "input_ids prompt_token_ids"),
    **_same(Refused(([], ""), "Send `prompt` or `messages`."), "inputs text chat_history"),
    **_same(_STORED_NOWHERE, "previous_response_id conversation context context_management"),
    **_same(
        _NO_SEARCH,
        """
        web_search search_settings search_parameters search_mode search_options
        search_domain_filter search_recency_filter data_sources include_domains exclude_domains
        compound_custom citation_options
        """,
    ),
}
"""Fields that would change the answer."""

_ELSEWHERE = "it concerns how a server does its work, and the settings decide that here"
_IDENTITY = "it names the request or its session, and nothing is kept"
_WITHOUT = "it has a meaning only beside a parameter that this server does not have"
_REPORT = "it asks for measurements, which are in the metrics and in `usage`"
_CLIENT = "it is for the client's library, not for a server"


def _hints(reason: str, names: str) -> Mapping[str, Hint]:
    return dict.fromkeys(names.split(), Hint(reason))


HINTS: Mapping[str, Hint] = {
    "encoding_format": Hint("the answer has no vectors"),
    "max_tool_calls": Hint(
        "it limits the tools that a server calls by itself; this one calls none"
    ),
    "verbosity": Hint(NO_VERBOSITY),
    **_hints(
        _ELSEWHERE,
        """
        cache_prompt id_slot slot_id n_keep num_keep n_discard num_ctx num_batch num_gpu
        main_gpu num_thread use_mmap use_mlock low_vram numa f16_kv shift keep_alive ttl
        draft_model num_draft_tokens speculative.n_max speculative.n_min speculative.p_min
        lookahead_config kv_transfer_params ec_transfer_params disaggregated_params
        bootstrap_host bootstrap_port bootstrap_room data_parallel_rank
        skip_reading_prefix_cache prompt_cache_max_len cache_control use_cache caching provider
        route guided_decoding_backend prompt_lookup_num_tokens max_context_length
        truncation_length wait_for_model disable_tool_validation
        """,
    ),
    **_hints(
        _IDENTITY,
        """
        request_id rid session_id conversation_params genkey trace trace_id tags
        user_security_context anthropic_version betas anthropic_beta
        """,
    ),
    **_hints(
        _WITHOUT,
        """
        dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat_tau
        mirostat_eta mirostat_target mirostat_lr xtc_threshold dynatemp_exponent dynatemp_low
        dynatemp_high smoothing_curve
        """,
    ),
    **_hints(
        _REPORT,
        """
        timings_per_token return_progress return_perf_metrics cache_report verbose
        return_text_in_logprobs debug perf_metrics_in_response return_cached_tokens_details
        return_meta_info usage
        """,
    ),
    **_hints(
        _CLIENT,
        """
        extra_headers extra_query timeout num_retries max_retries drop_params api_base api_key
        base_url custom_llm_provider
        """,
    ),
}
"""Fields that change nothing that is said."""

OTHER_SERVERS: Mapping[str, Fate] = {**REFUSED, **HINTS, **ALIASES, **SPREADS}
