"""How byte-level BPE models cut text into words before merging, by `tokenizer.ggml.pre`.

The rules are those of llama.cpp (src/llama-vocab.cpp and src/unicode.cpp in llama-cpp-python
0.3.36), written as one pattern each for tiktoken's regex engine. Some rules of llama.cpp are
several patterns, each of which cuts the words of the one before further; here, look-aheads have the
same effect. A pattern must match every character, because tiktoken drops what lies between matches.
"""

from msgspec import Struct


class PreTokenizer(Struct, frozen=True):
    """One rule. With `whole_words`, a word that is a token becomes that token, whatever the merges
    say (llama.cpp's ignore_merges). `add_bos` applies if the model file does not say. `has_bos`
    says whether llama.cpp has a default for a file that names no `bos` token."""

    pattern: str
    whole_words: bool = False
    add_bos: bool = False
    has_bos: bool = True


def find_pretokenizer(name: str) -> PreTokenizer | None:
    """The rule of this name, or None for one that is not known here."""
    return _BY_NAME.get(name)


def uses_std_regex(name: str) -> bool:
    """Whether llama.cpp may cut with std::regex, which takes stack for each character of a word."""
    return _BY_NAME.get(name) not in _WITHOUT_STD_REGEX


def _classes(pattern: str) -> str:
    """Character classes as of Unicode 15.0, which llama.cpp's tables are made from."""
    for name in ("L", "M", "N", "P", "S"):
        pattern = pattern.replace(f"\\p{{{name}}}", rf"[\p{{{name}}}&&\p{{Age=15.0}}]")
    return pattern


_CONTRACTION = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _llama3_like(numbers: str, marks: str = "") -> str:
    return _classes(
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}{marks}]+|{numbers}"
        rf"| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|{_BLANKS}"
    )


def _gpt4o_like(numbers: str, contraction: str) -> str:
    # llama.cpp tells upper from lower case for ASCII alone.
    prefix, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"[\p{L}--[a-z]]", r"[\p{L}--[A-Z]]"
    return _classes(
        rf"{prefix}{upper}*{lower}+{contraction}|{prefix}{upper}+{lower}*{contraction}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    )


def _deepseek_v3() -> str:
    # Numbers are cut out first, then runs of `east`; the last rule sees each part on its own.
    east = "[一-龥぀-ゟ゠-ヿ]"
    letters, signs = r"[[\p{L}\p{M}]--EAST]", r"[[\p{P}\p{S}]--EAST]"
    other = r"[^\r\n\p{L}\p{M}\p{N}\p{P}\p{S}]"
    return _classes(
        (
            r"\p{N}{1,3}"
            r"|[EAST--[\p{L}\p{P}\p{S}]]?[EAST&&[\p{L}\p{M}]]+|[EAST&&[\p{P}\p{S}]]+|[EAST--[\p{L}\p{M}\p{P}\p{S}]]+"
            r"|[!-/:-@\[-`{-~][A-Za-z]+"
            rf"|[[^\r\n\p{{L}}\p{{P}}\p{{S}}]--[EAST\p{{N}}]]?{letters}+"
            rf"| ?{signs}+[\r\n]*|\s*[\r\n]+|\s+(?![[^\s\p{{N}}]--EAST])|\s+"
            rf"|[{other}--[EAST\s]]+(?!{letters})|[{other}--EAST]"
        ).replace("EAST", east)
    )


_GPT2 = PreTokenizer(
    _classes(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    )
)
# Each digit is a word, cut out before the rest is looked at.
_STARCODER = PreTokenizer(
    _classes(
        r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+",
    )
)
_QWEN2 = PreTokenizer(_llama3_like(r"\p{N}"))
_QWEN35 = PreTokenizer(_llama3_like(r"\p{N}", r"\p{M}"))
_LLAMA3 = PreTokenizer(_llama3_like(r"\p{N}{1,3}"), whole_words=True, add_bos=True)
_DBRX = PreTokenizer(_LLAMA3.pattern)
_CHATGLM = PreTokenizer(_LLAMA3.pattern, has_bos=False)
_GLM4 = PreTokenizer(_LLAMA3.pattern, whole_words=True, has_bos=False)
_TEKKEN = PreTokenizer(_gpt4o_like(r"\p{N}", ""), whole_words=True, add_bos=True)
_GPT4O = PreTokenizer(_gpt4o_like(r"\p{N}{1,3}", f"(?:{_CONTRACTION})?"))
_DEEPSEEK_V3 = PreTokenizer(_deepseek_v3())
_SEED_CODER = PreTokenizer(
    _classes(
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|{_BLANKS}"
    )
)
_BAILINGMOE = PreTokenizer(
    _classes(
        r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    )
)
_EXAONE_MOE = PreTokenizer(
    _classes(
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
    )
)
_UFAKZEKA = PreTokenizer(
    _classes(rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}")
)
_WITHOUT_STD_REGEX = (_GPT2, _STARCODER, _QWEN2, _QWEN35, _LLAMA3, _DBRX, _CHATGLM, _GLM4)

_BY_NAME = {
    name: pretokenizer
    for pretokenizer, names in (
        (_GPT2, "gpt-2 phi-2 mpt olmo jais gigachat mellum exaone4 a.x-4.0 trillion"),
        (_GPT2, "granite-docling"),
        (_STARCODER, "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"),
        (_QWEN2, "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"),
        (_QWEN35, "qwen35"),
        (_LLAMA3, "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2"),
        (_DBRX, "dbrx smaug-bpe"),
        (_CHATGLM, "chatglm-bpe"),
        (_GLM4, "glm4 glm5"),
        (_TEKKEN, "tekken"),
        (_GPT4O, "gpt-4o llama4 kanana2 talkie minimax-m2"),
        (_SEED_CODER, "seed-coder"),
        (_BAILINGMOE, "bailingmoe bailingmoe2 llada-moe"),
        (_EXAONE_MOE, "exaone-moe"),
        (_UFAKZEKA, "ufakzeka"),
        (_DEEPSEEK_V3, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    )
    for name in names.split()
}
