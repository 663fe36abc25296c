"""The table of what belongs together, and those who store it."""

from gateway.api.openai.conversations.records import CONVERSATION, ITEM
from gateway.api.openai.responses.stored.records import PARTS_OF_RESPONSE, RESPONSE
from gateway.store.upkeep.kinds import AGEING, objects_of, whole_of


def test_the_table_knows_what_is_stored() -> None:
    responses, conversations = objects_of(RESPONSE), objects_of(CONVERSATION)
    assert (responses.parts, responses.children) == (PARTS_OF_RESPONSE, ())
    assert (conversations.parts, conversations.children) == ((), (ITEM,))
    assert [whole_of(part) for part in PARTS_OF_RESPONSE] == [RESPONSE] * len(PARTS_OF_RESPONSE)


def test_what_users_keep_on_purpose_does_not_age() -> None:
    assert RESPONSE in [each.kind for each in AGEING]
    assert CONVERSATION not in [each.kind for each in AGEING]
    assert not objects_of("something new").ages
