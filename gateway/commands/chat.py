"""`lockgate chat`: talk to a model in the terminal.

Talks to the server that runs at the address of the settings. When none does, it starts one of its
own on a free port and ends it afterwards.
"""

import argparse
import http
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from gateway.admission.keys import KEY_VARIABLE
from gateway.commands.answer_printer import AnswerPrinter, Piece
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.commands.own_server import CONNECT_TIMEOUT, server_for
from gateway.settings.mistakes import check_text
from runtime.errors import SetupError
from runtime.terminal.numbers import number, whole_number

_CHATS = "/v1/chat/completions"
_HELP = "/reset forgets the conversation, /exit leaves, Ctrl-C stops an answer."


OPTIONS = {"max_tokens": "--max-tokens", "temperature": "--temperature"}
"""The parameters of a chat that have options of this command."""


class ChatError(SetupError):
    """The server refused or broke off an answer. The conversation can go on."""


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta


class _Error(Struct):
    message: str


class _Chunk(Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


class _Model(Struct):
    id: str


class _ModelList(Struct):
    data: list[_Model]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate chat`."""
    parser.add_argument("--message", metavar="TEXT", help="ask this, print the answer and leave")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--max-tokens", type=whole_number(-1), metavar="N", help="longest answer in tokens"
    )
    parser.add_argument(
        "--temperature", type=number(0, 2), metavar="T", help="0 is always the same"
    )
    parser.add_argument(
        "--hide-reasoning", action="store_true", help="do not show what the model thinks"
    )
    add_server_options(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """One question with `--message`, a conversation otherwise."""
    settings = settings_of(arguments)
    for option in ("message", "system"):
        check_text(f"--{option}", getattr(arguments, option) or "")
    with server_for(arguments, settings) as client:
        conversation = Conversation(client, _model_to_use(arguments, client), arguments)
        printer = AnswerPrinter(hide_reasoning=arguments.hide_reasoning)
        if arguments.message is None:
            _talk(conversation, printer)
        else:
            _ask_once(conversation, arguments.message, printer)
    return 0


class Conversation:
    """The messages so far. `model` is the name that the server knows."""

    def __init__(self, client: httpx.Client, model: str, options: argparse.Namespace) -> None:
        self.model = model
        self._client = client
        given = {name: getattr(options, name) for name in OPTIONS}
        self._options = {name: value for name, value in given.items() if value is not None}
        self._system = [_message("system", options.system)] if options.system else []
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = list(self._system)

    def ask(self, text: str) -> Generator[Piece, None, None]:
        """The pieces of the answer. What was said stays in the conversation, also of an answer that
        is broken off, and thoughts do not; one that the server refuses leaves nothing. Raises
        `ChatError`."""
        messages = [*self.messages, _message("user", text)]
        body = {"model": self.model, "messages": messages, "stream": True, **self._options}
        said = ""
        try:
            for piece in _stream(self._client, body):
                if not piece.is_thought:
                    said += piece.text
                yield piece
        finally:
            if said:
                self.messages = [*messages, _message("assistant", said)]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _talk(conversation: Conversation, printer: AnswerPrinter) -> None:
    with suppress(ImportError):
        import_module("readline")  # line editing and history, where Python has it
    print(f"{conversation.model}. {_HELP}")
    while (text := _read_line()) is not None:
        if text == "/exit":
            return
        if text == "/reset":
            conversation.reset()
        elif text.startswith("/"):
            print(_HELP)
        elif text:
            _print_answer(conversation, text, printer)


def _read_line() -> str | None:
    """What the user typed; None when there will be no more. Raises SetupError for bytes that are no
    text."""
    try:
        text = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    check_text("standard input", text, sys.stdin.encoding)
    return text


def _print_answer(conversation: Conversation, text: str, printer: AnswerPrinter) -> None:
    # closing ends the connection, and with it the server's work on an answer nobody wants
    with closing(conversation.ask(text)) as answer, _noting_interrupts() as interrupted:
        try:
            for piece in answer:
                printer.write(piece)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            printer.end_thought()
            print(" (stopped)", end="")
        except ChatError as error:
            printer.end_thought()
            print(f"lockgate: {error}", file=sys.stderr)
    printer.end_thought()  # it may have been all
    print()


@contextmanager
def _noting_interrupts() -> Iterator[threading.Event]:
    """Sets the event at Ctrl-C, beside the usual exception: one that is raised while Python runs a
    destructor is lost."""
    interrupted = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _ask_once(conversation: Conversation, text: str, printer: AnswerPrinter) -> None:
    try:
        for piece in conversation.ask(text):
            printer.write(piece)
    finally:
        printer.end_thought()
    print()


def _stream(client: httpx.Client, body: dict[str, Any]) -> Iterator[Piece]:
    content = msgspec.json.encode(body)
    headers = {"Content-Type": "application/json"}
    try:
        with client.stream("POST", _CHATS, content=content, headers=headers) as response:
            if response.status_code != http.HTTPStatus.OK:
                response.read()
                raise ChatError(_refusal(response))
            yield from _pieces(response)
    except httpx.HTTPError as error:
        raise ChatError(f"the server is gone: {error}") from error


def _pieces(response: httpx.Response) -> Iterator[Piece]:
    for line in _lines(response):
        name, _, data = line.strip().partition(b": ")
        if name != b"data":
            continue
        if data == b"[DONE]":
            return
        chunk = _decode(data)
        if chunk.error is not None:
            raise ChatError(chunk.error.message)
        for choice in chunk.choices:
            if choice.delta.reasoning_content:
                yield Piece(choice.delta.reasoning_content, is_thought=True)
            if choice.delta.content:
                yield Piece(choice.delta.content)
    raise ChatError("the server broke off the answer")


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """The lines of the body. `Response.iter_lines` would also cut at U+2028 and the like, which an
    answer may hold."""
    rest = b""
    with suppress(httpx.RemoteProtocolError):  # the connection ended before the body
        for block in response.iter_bytes():
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    yield rest


def _decode(data: bytes) -> _Chunk:
    try:
        return msgspec.json.decode(data, type=_Chunk)
    except msgspec.DecodeError as error:
        raise ChatError(f"the server's answer cannot be read: {error}") from error


def _refusal(response: httpx.Response) -> str:
    with suppress(ChatError):
        if error := _decode(response.content).error:
            return _in_options(error.message)
    return f"the server answered {response.status_code}"


def _in_options(message: str) -> str:
    """A message of the server, with this command's names of its parameters."""
    for param, option in OPTIONS.items():
        message = message.replace(f"`{param}`", f"`{option}`")
    return message


def _model_to_use(arguments: argparse.Namespace, client: httpx.Client) -> str:
    """The server's model. With `--model` it has to be that one."""
    where = client.base_url.netloc.decode()
    try:
        response = client.get("/v1/models", timeout=CONNECT_TIMEOUT)
        if response.status_code == http.HTTPStatus.UNAUTHORIZED:
            raise SetupError(f"{_refusal(response)} {KEY_VARIABLE} is where this command looks.")
        if response.status_code != http.HTTPStatus.OK:
            raise SetupError(f"{where}: {_refusal(response)}")
        names = [model.id for model in msgspec.json.decode(response.content, type=_ModelList).data]
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise SetupError(f"{where} lists no models: {error}") from error
    wanted = getattr(arguments, "model.name_or_path")
    matching = [name for name in names if wanted in (None, name) or Path(wanted).stem == name]
    if not matching:
        raise SetupError(
            f"the server at {where} serves {', '.join(names) or 'no model'}, "
            f"not {wanted}; leave --model out or choose another --port"
        )
    return matching[0]
