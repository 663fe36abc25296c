"""Hostile requests: bodies that cost a server far more than the client that sends them."""

from collections.abc import Callable
from dataclasses import dataclass

from wire import HOST

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
TOKENIZE = "/tokenize"

TEN_MB = 9_900_000
FIVE_MB = TEN_MB // 2


@dataclass(frozen=True)
class Attack:
    """The same bytes on `connections` connections at once. With `leaves` the clients go away once
    they have sent them. With a `piece` they are sent in pieces of so many bytes, with a pause of so
    many seconds before each but the first."""

    sent: bytes
    connections: int = 1
    leaves: bool = False
    piece: int = 0
    pause: float = 0.0


def names_of_attacks(part: str = "") -> list[str]:
    """The names of all attacks that have a part in their name."""
    return [name for name in (*(name for name, _, _ in BODIES), *SEVERAL) if part in name]


def attack_named(model: str, name: str) -> Attack:
    """The attack of that name on a server of this model. It is large."""
    for known, path, build in BODIES:
        if known == name:
            return Attack(post_bytes(path, build(model.encode())))
    return SEVERAL[name](model.encode())


def get(path: bytes, headers: bytes = b"") -> bytes:
    """A GET with further headers, whose lines are complete."""
    return b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (path, HOST.encode(), headers)


def in_chunks(body: bytes, size: int) -> bytes:
    """A chat whose body comes in chunks of so many bytes."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        "transfer-encoding: chunked\r\n\r\n"
    )
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*pieces, b""))


def one_word(model: bytes) -> bytes:
    """A chat of a single long word."""
    return chat_of(model, b"a" * TEN_MB)


def words(model: bytes) -> bytes:
    """A chat of 500 kB."""
    return chat_of(model, b"word " * 100_000)


SEVERAL: dict[str, Callable[[bytes], Attack]] = {
    "5 long words, clients gone": lambda model: Attack(
        post_bytes(CHAT, one_word(model)), 5, leaves=True
    ),
    "12 long words": lambda model: Attack(post_bytes(CHAT, one_word(model)), 12),
    "40 texts of 500 kB, clients gone": lambda model: Attack(
        post_bytes(CHAT, words(model)), 40, leaves=True
    ),
    "60 uploads without an end": lambda model: Attack(post_bytes(CHAT, one_word(model))[:-1], 60),
    "60 slow uploads": lambda model: Attack(
        post_bytes(CHAT, words(model)), 60, piece=1000, pause=0.05
    ),
    "a body in chunks of a byte": lambda model: Attack(
        in_chunks(chat_of(model, b"word " * 200_000), 1)
    ),
    "bodies in small pieces": lambda model: Attack(
        in_chunks(chat_of(model, b"word " * 2_000), 7), 40, piece=500
    ),
    "2,000 pipelined GETs": lambda model: Attack(get(b"/v1/models") * 2000),
    "many headers": lambda model: Attack(get(b"/v1/models", b"a: b\r\n" * 10_000), 40),
    "a long header": lambda model: Attack(get(b"/v1/models", b"a: %b\r\n" % (b"b" * 65_000)), 40),
    "a long query": lambda model: Attack(get(b"/v1/models?" + b"a=b&" * 16_000), 40),
    "a long path": lambda model: Attack(get(b"/v1" + b"/a" * 32_000), 40),
    "escapes in a path": lambda model: Attack(get(b"/v1/models/" + b"%F0" * 21_000), 40),
}
"""Those that are more than one request with a large body. What makes them of a model's name."""


def post_bytes(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def chat_of(model: bytes, content: bytes) -> bytes:
    """A chat with one message, whose content is the inside of a JSON string."""
    return chat_with(model, b"", b'[{"role":"user","content":"' + content + b'"}]')


def chat_with(model: bytes, fields: bytes, messages: bytes = b"") -> bytes:
    """A chat with further fields, which begin with a comma."""
    messages = messages or b'[{"role":"user","content":"a"}]'
    return b'{"model":"%b","max_tokens":1,"messages":%b%b}' % (model, messages, fields)


def messages(message: bytes, size: int = TEN_MB) -> Callable[[bytes], bytes]:
    """A chat of one message again and again."""
    return lambda model: chat_with(model, b"", array(message, size))


def field(name: bytes, value: Callable[[], bytes]) -> Callable[[bytes], bytes]:
    """A chat with a further field."""
    return lambda model: chat_with(model, b',"%b":%b' % (name, value()))


def items(item: bytes, size: int = TEN_MB) -> Callable[[bytes], bytes]:
    """A response to one item again and again."""
    return lambda model: b'{"model":"%b","input":%b}' % (model, array(item, size))


def value(name: bytes, inside: Callable[[], bytes], more: bytes = b"") -> Callable[[bytes], bytes]:
    """A body with one large field."""
    return lambda model: b'{"model":"%b","%b":%b%b}' % (model, name, inside(), more)


def array(item: bytes, size: int = TEN_MB) -> bytes:
    """A list of one item again and again, of some `size` bytes."""
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def keys(size: int = TEN_MB) -> bytes:
    """The members of an object, with a different name each."""
    return b",".join([b'"%x":0' % number for number in range(size // 12)])


def text(piece: bytes, size: int = TEN_MB) -> bytes:
    """A text of one piece again and again."""
    return b'"' + piece * (size // len(piece)) + b'"'


CALL = b'{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}'
ITEM_CALL = b'{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}'
PART = b'{"type":"text","text":""}'
IMAGE = b'{"type":"image_url","image_url":{"url":"data:"}}'
TOOL = b'{"type":"function","function":{"name":"f"}}'
PICTURE = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}' % (
    b"A" * 9_800_000
)
SURROGATES = b"\\ud83d\\ude00"
ASCII = b"a " * (TEN_MB // 2 - 9)
SCHEMA = b'{"type":"object","properties":{%b}}' % b",".join(
    [b'"%x":{"type":"string"}' % number for number in range(20_000)]
)
HALF = b'"\\ud800"'
ASSISTANT = b'{"role":"assistant","content":null,"tool_calls":%b}'

TRUNCATED = b',"truncate_prompt_tokens":8'

BODIES: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("items that are calls", RESPONSES, items(ITEM_CALL)),
    ("items that are calls, within limits", RESPONSES, items(ITEM_CALL, 1_000_000)),
    ("items that are messages", RESPONSES, items(b'{"role":"user","content":""}')),
    ("results of tools", CHAT, messages(b'{"role":"tool","tool_call_id":"a","content":""}')),
    ("messages", CHAT, messages(b'{"role":"user","content":""}')),
    ("messages, within limits", CHAT, messages(b'{"role":"user","content":""}', 800_000)),
    ("calls", CHAT, lambda model: chat_with(model, b"", b"[%b]" % (ASSISTANT % array(CALL)))),
    ("parts", CHAT, messages(b'{"role":"user","content":%b}' % array(PART), TEN_MB + 100)),
    ("images", CHAT, messages(b'{"role":"user","content":%b}' % array(IMAGE), TEN_MB + 100)),
    ("template variables", CHAT, field(b"chat_template_kwargs", lambda: b"{%b}" % keys())),
    (
        "template variables, within limits",
        CHAT,
        field(b"chat_template_kwargs", lambda: b"{%b}" % keys(1_700_000)),
    ),
    ("unknown fields", CHAT, lambda model: chat_with(model, b"," + keys())),
    ("unknown fields, within limits", CHAT, lambda model: chat_with(model, b"," + keys(1_700_000))),
    ("tools", CHAT, field(b"tools", lambda: array(TOOL))),
    ("stop strings", CHAT, field(b"stop", lambda: array(b'"a"'))),
    ("long stop strings", CHAT, field(b"stop", lambda: array(text(b"a", 2_400_000)))),
    ("ids to stop at", CHAT, field(b"stop_token_ids", lambda: array(b"1"))),
    ("logit_bias", CHAT, field(b"logit_bias", lambda: b"{%b}" % keys().replace(b'"0x', b'"'))),
    ("guided_choice", CHAT, field(b"guided_choice", lambda: array(b'"a"'))),
    ("guided_regex", CHAT, field(b"guided_regex", lambda: text(b"(a|b)*"))),
    ("prediction", CHAT, field(b"prediction", lambda: array(b"{}"))),
    ("audio", CHAT, field(b"audio", lambda: array(b"{}"))),
    ("metadata", CHAT, field(b"metadata", lambda: b"{%b}" % keys().replace(b":0", b':""'))),
    (
        "JSON in arguments",
        CHAT,
        lambda model: chat_with(
            model,
            b"",
            b"[%b]" % (ASSISTANT % (b"[%b]" % CALL.replace(b"{}", array(b"1"), 1))),
        ),
    ),
    ("half a character", COMPLETIONS, value(b"prompt", lambda: array(b"1"), b',"user":' + HALF)),
    (
        "half a character, within limits",
        COMPLETIONS,
        value(b"prompt", lambda: array(b"1", 1_900_000), b',"user":' + HALF),
    ),
    ("ids", COMPLETIONS, value(b"prompt", lambda: array(b"1"))),
    ("ids, within limits", COMPLETIONS, value(b"prompt", lambda: array(b"151000", 6_900_000))),
    ("prompts of one id", COMPLETIONS, value(b"prompt", lambda: array(b"[1]"))),
    ("prompts of one id, within", COMPLETIONS, value(b"prompt", lambda: array(b"[1]", 590_000))),
    ("a long word", COMPLETIONS, value(b"prompt", lambda: text(b"a"))),
    ("angle brackets", COMPLETIONS, value(b"prompt", lambda: text(b"<"))),
    ("half control tokens", COMPLETIONS, value(b"prompt", lambda: text(b"<|im_"))),
    ("control tokens", COMPLETIONS, value(b"prompt", lambda: text(b"<|im_end|>"))),
    ("blanks", COMPLETIONS, value(b"prompt", lambda: text(b" "))),
    ("emoji", COMPLETIONS, value(b"prompt", lambda: text("😀".encode()))),
    ("escapes", COMPLETIONS, value(b"prompt", lambda: text(b"\\u00e9"))),
    ("words", CHAT, lambda model: chat_of(model, b"word " * (TEN_MB // 5))),
    (
        "one wide character",
        CHAT,
        lambda model: chat_of(model, "😀".encode() + b"a " * (TEN_MB // 2 - 9)),
    ),
    ("truncated words", COMPLETIONS, value(b"prompt", lambda: text(b"word "), TRUNCATED)),
    ("inputs of embeddings", EMBEDDINGS, value(b"input", lambda: array(b'"a"'))),
    ("ids of embeddings", EMBEDDINGS, value(b"input", lambda: array(b"1"))),
    ("/tokenize", TOKENIZE, value(b"prompt", lambda: text(b"<"))),
    (
        "/tokenize with texts of tokens",
        TOKENIZE,
        value(b"prompt", lambda: text(b"<"), b',"return_token_strs":true'),
    ),
    ("/detokenize", "/detokenize", value(b"tokens", lambda: array(b"1"))),
    ("/detokenize, within limits", "/detokenize", value(b"tokens", lambda: array(b"1", 1_900_000))),
    (
        "/tokenize with texts of tokens, in chats",
        TOKENIZE,
        lambda model: chat_of(model, b"word " * (TEN_MB // 5))[:-1] + b',"return_token_strs":true}',
    ),
    ("/tokenize, escaped emoji", TOKENIZE, value(b"prompt", lambda: text(SURROGATES))),
    ("/generate", "/generate", value(b"prompt", lambda: text(b"word "))),
    ("prompts that are texts", COMPLETIONS, value(b"prompt", lambda: array(b'"a few words"'))),
    (
        "prompts that are texts, within limits",
        COMPLETIONS,
        value(b"prompt", lambda: array(text(b"word ", 90), 9_000_000)),
    ),
    ("texts of embeddings", EMBEDDINGS, value(b"input", lambda: array(text(b"word ", 4800)))),
    ("escaped emoji", CHAT, lambda model: chat_of(model, SURROGATES * (TEN_MB // 12))),
    ("escaped emoji before words", CHAT, lambda model: chat_of(model, SURROGATES + ASCII)),
    ("wide character at the end", CHAT, lambda model: chat_of(model, ASCII + "😀".encode())),
    (
        "wide character in an item",
        RESPONSES,
        value(b"input", lambda: b'"' + ASCII + "😀".encode() + b'"'),
    ),
    (
        "wide character in a prompt",
        COMPLETIONS,
        value(b"prompt", lambda: b'"' + ASCII + "😀".encode() + b'"'),
    ),
    (
        "wide character, /tokenize",
        TOKENIZE,
        value(b"prompt", lambda: b'"' + ASCII[:FIVE_MB] + "😀".encode() + b'"'),
    ),
    ("items with texts", RESPONSES, items(b'{"role":"user","content":"%b"}' % (b"word " * 60))),
    (
        "parts with texts",
        CHAT,
        messages(
            b'{"role":"user","content":%b}' % array(PART.replace(b'""', text(b"word ", 300))),
            TEN_MB + 500,
        ),
    ),
    ("a picture", CHAT, messages(b'{"role":"user","content":[%b]}' % PICTURE, TEN_MB)),
    (
        "properties of a tool, within limits",
        CHAT,
        field(b"tools", lambda: b"[%b]" % TOOL.replace(b'"f"', b'"f","parameters":%b' % SCHEMA)),
    ),
    (
        "properties of a schema, within limits",
        CHAT,
        field(
            b"response_format",
            lambda: b'{"type":"json_schema","json_schema":{"name":"a","schema":%b}}' % SCHEMA,
        ),
    ),
    ("guided_json", CHAT, field(b"guided_json", lambda: SCHEMA)),
    ("guided_grammar", CHAT, field(b"guided_grammar", lambda: text(b"a: b\\n"))),
    (
        "logit_bias, within limits",
        CHAT,
        field(b"logit_bias", lambda: b"{%b}" % keys(1_200_000).replace(b'"0x', b'"')),
    ),
    (
        "metadata, within limits",
        CHAT,
        field(b"metadata", lambda: b"{%b}" % keys(600_000).replace(b":0", b':""')),
    ),
    ("a long name of a model", CHAT, lambda model: chat_of(b"a" * TEN_MB, b"a")),
    ("a long name of a field", CHAT, field(b"a" * TEN_MB, lambda: b"1")),
    ("a long name in logit_bias", CHAT, field(b"logit_bias", lambda: b"{%b:1}" % text(b"1"))),
    ("a long user", CHAT, field(b"user", lambda: text(b"a"))),
    ("a long number", CHAT, field(b"seed", lambda: b"1" * TEN_MB)),
    ("a long fraction", CHAT, field(b"temperature", lambda: b"0." + b"1" * TEN_MB)),
    ("a long exponent", CHAT, field(b"top_p", lambda: b"1e-" + b"1" * TEN_MB)),
    ("the same field", CHAT, lambda model: chat_with(model, b',"n":1' * (TEN_MB // 6))),
    ("the same field, within limits", CHAT, lambda model: chat_with(model, b',"n":1' * 100_000)),
    ("white space", CHAT, lambda model: chat_with(model, b" " * TEN_MB)),
    (
        "deep nesting in arguments",
        CHAT,
        lambda model: chat_with(
            model, b"", b"[%b]" % (ASSISTANT % (b"[%b]" % CALL.replace(b"{}", b"[" * FIVE_MB, 1)))
        ),
    ),
    ("deep nesting", CHAT, field(b"audio", lambda: b"[" * FIVE_MB + b"]" * FIVE_MB)),
    ("not JSON", CHAT, lambda model: b'"' * TEN_MB),
)
"""A name, a path, and what makes the body of a model's name."""
