"""The part of a schema that causes an error."""

from runtime.structured.schemas.search import MAX_TRIES, find_mistake


def test_a_place_is_looked_for_no_longer_than_it_may_take():
    tries = 0

    def mistake(schema: str) -> str:
        nonlocal tries
        tries += 1
        return "no" if "bad" in schema else ""

    properties = {f"p{number}": {} for number in range(MAX_TRIES)}

    assert find_mistake({"properties": {**properties, "q": {"bad": 1}}}, mistake) == ()
    assert tries == MAX_TRIES + 1


def test_the_smallest_part_with_the_error_of_the_whole_is_found():
    def mistake(schema: str) -> str:
        return "no" if "bad" in schema else ""

    inner = {"anyOf": [{}, {"items": {"bad": 1}}]}
    assert find_mistake(inner, mistake) == ("anyOf", "1", "items")
    assert find_mistake({"properties": {"anyOf": inner}}, mistake)[:2] == ("properties", "anyOf")
    assert find_mistake({}, mistake) == ()
