"""Hostile requests: bodies that cost a server far more than the client that sends them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wire import HOST

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"

TEN_MB = 9_900_000
FIVE_MB = TEN_MB // 2


@dataclass(frozen=True)
class Attack:
    """The same bytes on `connections` connections at once. With `leaves` the clients go away once
    they have sent them."""

    name: str
    sent: bytes
    connections: int = 1
    leaves: bool = False


def attacks(model: str, only: str = "") -> Iterator[Attack]:
    """All attacks on a server of this model that have `only` in their name, one after another: they
    are large."""
    for name, path, build in BODIES:
        if only in name:
            yield Attack(name, post_bytes(path, build(model.encode())))
    yield from (attack for attack in _many(model.encode()) if only in attack.name)


def _many(model: bytes) -> Iterator[Attack]:
    """Those that are more than one request."""
    word = post_bytes(CHAT, chat_of(model, b"a" * TEN_MB))
    words = post_bytes(CHAT, chat_of(model, b"word " * 100_000))
    yield Attack("5 long words, clients gone", word, 5, leaves=True)
    yield Attack("12 long words", word, 12)
    yield Attack("40 texts of 500 kB, clients gone", words, 40, leaves=True)
    yield Attack("60 uploads without an end", word[:-1], 60)
    get = f"GET /v1/models HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    yield Attack("2,000 pipelined GETs", get * 2000)


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
    ("/tokenize", "/tokenize", value(b"prompt", lambda: text(b"<"))),
    (
        "/tokenize with texts of tokens",
        "/tokenize",
        value(b"prompt", lambda: text(b"<"), b',"return_token_strs":true'),
    ),
    ("/detokenize", "/detokenize", value(b"tokens", lambda: array(b"1"))),
    ("/detokenize, within limits", "/detokenize", value(b"tokens", lambda: array(b"1", 1_900_000))),
    ("deep nesting", CHAT, field(b"audio", lambda: b"[" * FIVE_MB + b"]" * FIVE_MB)),
    ("not JSON", CHAT, lambda model: b'"' * TEN_MB),
)
"""A name, a path, and what makes the body of a model's name."""
