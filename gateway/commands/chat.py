"""`lockgate chat`: talk to a model in the terminal.

Talks to the server that runs at the address of the settings. When none does, it starts one of its
own on a free port and ends it afterwards.
"""

import argparse
import http.client
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from msgspec import Struct

from gateway.admission.keys import ADMIN_KEY_VARIABLE, KEY_VARIABLE
from gateway.commands.answer_printer import AnswerPrinter, Piece
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.commands.own_server import CONNECT_TIMEOUT, Address, server_for
from runtime.errors import LockgateError, SetupError

# a silent stream gets a comment every few seconds; this long a silence is a lost server
_READ_TIMEOUT = 300.0
_HELP = "/reset forgets the conversation, /exit leaves, Ctrl-C stops an answer."


class ChatError(LockgateError):
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


class Message(Struct, frozen=True):
    """One turn of the conversation."""

    role: str
    content: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate chat`."""
    parser.add_argument("--message", metavar="TEXT", help="ask this, print the answer and leave")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="longest answer in tokens")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is always the same")
    parser.add_argument(
        "--hide-reasoning", action="store_true", help="do not show what the model thinks"
    )
    add_server_options(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """One question with `--message`, a conversation otherwise."""
    settings = settings_of(arguments)
    with server_for(arguments, settings) as address:
        conversation = Conversation(address, _model_to_use(arguments, address), arguments)
        printer = AnswerPrinter(hide_reasoning=arguments.hide_reasoning)
        if arguments.message is None:
            _talk(conversation, printer)
        else:
            _ask_once(conversation, arguments.message, printer)
    return 0


class Conversation:
    """The messages so far. `model` is the name that the server knows."""

    def __init__(self, address: Address, model: str, options: argparse.Namespace) -> None:
        self.address = address
        self.model = model
        self._options: dict[str, Any] = {
            name: value
            for name in ("max_tokens", "temperature")
            if (value := getattr(options, name)) is not None
        }
        self._system = [Message("system", options.system)] if options.system else []
        self.messages = list(self._system)

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = list(self._system)

    def ask(self, text: str) -> Generator[Piece, None, None]:
        """The pieces of the answer. What was said stays in the conversation, also of an answer that
        is broken off, and thoughts do not; one that the server refuses leaves nothing. Raises
        `ChatError`."""
        question = Message("user", text)
        body = {
            "model": self.model,
            "messages": [*self.messages, question],
            "stream": True,
            **self._options,
        }
        said: list[str] = []
        try:
            for piece in _stream(self.address, body):
                if not piece.is_thought:
                    said.append(piece.text)
                yield piece
        finally:
            if said:
                self.messages += [question, Message("assistant", "".join(said))]


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
    """What the user typed; None when there will be no more."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None


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
    except ChatError as error:
        raise SetupError(str(error)) from error
    finally:
        printer.end_thought()
    print()


def _stream(address: Address, body: dict[str, Any]) -> Iterator[Piece]:
    connection = address.connect(_READ_TIMEOUT)
    try:
        headers = {"Content-Type": "application/json", **_key_header()}
        connection.request(
            "POST", "/v1/chat/completions", msgspec.json.encode(body), headers=headers
        )
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise ChatError(_refusal(response))
        yield from _pieces(response)
    except (OSError, http.client.HTTPException) as error:
        raise ChatError(f"the server is gone: {error}") from error
    finally:
        connection.close()


def _key_header() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE) or os.environ.get(ADMIN_KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _pieces(response: http.client.HTTPResponse) -> Iterator[Piece]:
    for line in response:
        name, _, data = line.strip().partition(b": ")
        if name != b"data":
            continue
        if data == b"[DONE]":
            return
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            raise ChatError(chunk.error.message)
        for choice in chunk.choices:
            if choice.delta.reasoning_content:
                yield Piece(choice.delta.reasoning_content, is_thought=True)
            if choice.delta.content:
                yield Piece(choice.delta.content)
    raise ChatError("the server broke off the answer")


def _refusal(response: http.client.HTTPResponse) -> str:
    try:
        chunk = msgspec.json.decode(response.read(), type=_Chunk)
    except msgspec.DecodeError:
        chunk = _Chunk()
    return chunk.error.message if chunk.error else f"the server answered {response.status}"


def _model_to_use(arguments: argparse.Namespace, address: Address) -> str:
    """The server's model. With `--model` it has to be that one."""
    connection = address.connect(CONNECT_TIMEOUT)
    try:
        connection.request("GET", "/v1/models", headers=_key_header())
        response = connection.getresponse()
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            raise SetupError(f"{_refusal(response)} {KEY_VARIABLE} is where this command looks.")
        body = response.read()
        names = [model.id for model in msgspec.json.decode(body, type=_ModelList).data]
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise SetupError(f"{address.host}:{address.port} lists no models: {error}") from error
    finally:
        connection.close()
    wanted = getattr(arguments, "model.name_or_path")
    matching = [name for name in names if wanted in (None, name) or Path(wanted).stem == name]
    if not matching:
        raise SetupError(
            f"the server at {address.host}:{address.port} serves {', '.join(names) or 'no model'}, "
            f"not {wanted}; leave --model out or choose another --port"
        )
    return matching[0]
