"""Texts that tokenizers get wrong, and what tokenizers say of themselves."""

import random
from collections.abc import Iterator

FIELDS = (
    *("vocab_size", "max_model_len", "bos_token_id", "eos_token_id", "eog_token_ids"),
    *("chat_template", "bos_token", "eos_token", "fim_tokens", "control_tokens"),
)

NASTY = (
    *("hello", " world", "I'm", "we'LL", "don't", "HE'S", "'", "''s", "a'b", "ſ", "'ſ", "K", "İ"),
    *(" \n", "\r\n", "\t", "   ", "  \n  ", "\x85", "\xa0", "\u3000", "\u2028", "\x0b", "\x1c"),
    *("1", "123", "4567890", "٣٤٥", "½²", "１２３", "\U00010d40", "\U0001ccf0", "Ⅷ"),
    *(
        "naïve",
        "Ünïcödé",
        "日本語",
        "カタカナ・ー",
        "ひらがな゛",
        "漢字",
        "한국어",
        "ＡＢＣ",
        "\u3040",
    ),
    *("עברית", "العربية", "\u202eabc\u202c", "हिन्दी", "ไทย", "e\u0301", "a\u0301\u0302b", "\u0897"),
    *("👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "\u200d", "\u200b", "\ufeff", "\ufffd", "\u1c89", "\u0378"),
    *("\x00", "\x01\x02", "\x7f", "\U000e0001", "\U0010ffff", "\uffff", "ǅ", "ʰ", "\U0001e5f1"),
    *(
        "...",
        "!!!",
        "<|",
        "|>",
        "_",
        "$%^&",
        "`~",
        "(((",
        "«»",
        "—",
        "a/b//c",
        "\\n",
        "#include <x>",
    ),
    *(
        "camelCase",
        "XMLHttp",
        "foo_bar",
        "<|im_end|>",
        "<|im_start|>",
        "<tool_call>",
        "<|im_",
        "</s>",
    ),
    *(" quartz", "quartz", "quartzes", "  1", "    12", "\n\n1", " ", "  ", "12"),
)


def nasty_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Random sequences of nasty pieces, of blanks, of any code points, and long words."""
    rnd = random.Random(seed)
    ranges = ((0, 0x7F), (0, 0x2FF), (0x2000, 0x33FF), (0, 0xD7FF), (0xE000, 0x10FFFF))
    makers = (
        lambda: rnd.choice(NASTY),
        lambda: rnd.choice(NASTY),
        lambda: chr(rnd.randint(*rnd.choice(ranges))),
        lambda: rnd.choice(" \n\r\ta1'!\u3000é日"),
        lambda: rnd.choice("etaoinshrdlu"),
    )
    for _ in range(count):
        make = rnd.choice(makers)
        yield "".join(make() for _ in range(rnd.randint(0, 40)))
    yield from ("", " ", "a" * 5000, " " * 5000, "\n" * 999, "日" * 999, "!" * 1500, "1" * 999)
