"""`lockgate show NAME`: what a model is, and what it needs."""

import argparse

from rich.table import Table

from gateway.commands.hub.card import ModelCard, card_of_file, card_of_folder, card_of_hub
from gateway.commands.hub.output import print_json, print_table, size_text
from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_offline_option, add_settings_options, settings_of
from gateway.models.pulls.wanted import memory_here
from runtime.errors import SetupError
from runtime.models.repositories.client import HubClient
from runtime.models.store import ModelStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate show`."""
    parser.add_argument("name", metavar="NAME", help="any name or path that lockgate serve takes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_offline_option(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the model's card. The hub is asked about a model that is not on the disk."""
    settings = settings_of(arguments)
    memory = memory_here(settings.engine)
    card = _card(open_store(settings, any_size=True, form="any"), arguments.name, memory)
    if arguments.json:
        print_json(card)
    else:
        print_table(_table(card))
    return 0


def _card(store: ModelStore, name: str, memory: int) -> ModelCard:
    model = store.find(name)
    if model.is_present:
        return (card_of_folder if model.is_folder else card_of_file)(model, memory)
    if model.repository is None:
        raise SetupError(f"{name} is not here yet; fetch it with: lockgate pull {name}")
    choice = store.repositories.look_up(model.repository)
    client = HubClient(store.repositories.place)
    try:
        return card_of_hub(name, choice, client.info(model.repository.repository), memory)
    finally:
        client.close()


def _table(card: ModelCard) -> Table:
    table = Table.grid("", "", padding=(0, 2))
    for name, value in _rows(card):
        table.add_row(name, value)
    return table


def _rows(card: ModelCard) -> list[tuple[str, str]]:
    where = card.path if card.is_present else f"not here; fetch it with: lockgate pull {card.name}"
    template = {True: "yes", False: "no", None: "not known"}[card.chat_template]
    verdict = "fits here" if card.fits else "does not fit here"
    memory = f"{size_text(card.memory)} at least, which {verdict}"
    if card.memory_full_context is not None:
        memory += f"; {size_text(card.memory_full_context)} with the whole context"
    return [
        ("name", card.name),
        ("architecture", card.architecture or "not known"),
        ("parameters", _large(card.parameters)),
        ("quantisation", card.quantisation or "none"),
        ("context", f"{card.context:,} tokens" if card.context else "not known"),
        ("licence", card.licence or "not known"),
        ("chat template", template),
        ("capabilities", ", ".join(card.capabilities) or "not known"),
        ("size", size_text(card.size)),
        ("memory", memory),
        ("path", where),
    ]


def _large(count: int | None) -> str:
    if count is None:
        return "not known"
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
