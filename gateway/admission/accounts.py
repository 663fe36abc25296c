"""What a request's tokens are counted for, and whether its key may use more."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from gateway.admission.middleware import principal_of
from gateway.admission.owner import owner_of
from gateway.observability.answer_record import AnswerRecord
from gateway.observability.request_record import RequestRecord
from gateway.settings.schema import PriceSettings
from gateway.usage.budgets import check_budgets
from gateway.usage.ledger import Account, Ledger


def check_budgets_of(scope: Any, ledger: Ledger, prices: Mapping[str, PriceSettings]) -> None:
    """Raises BudgetExhausted if the request's key has used up a budget. What its running requests
    will have used is not known yet, so that a key may go over its budget by that much."""
    principal = principal_of(scope)
    if principal is not None and (budgets := principal.entry.budgets):
        check_budgets(principal.name, budgets, ledger.totals, prices, ledger.clock())


def counted(scope: Any, ledger: Ledger, record: AnswerRecord) -> None:
    """Has the tokens of an answer counted for the request's key when the answer is over."""
    account = Account(
        owner=owner_of(scope),
        model=RequestRecord.of(scope).model_name,
        endpoint=str(scope["path_template"]),
    )
    record.on_end = partial(ledger.add, account)
