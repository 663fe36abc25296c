"""Conversations of random turns, as clients send them."""

from itertools import count

from hypothesis import strategies as st

from gateway.chat.conversation import Turn, TurnCall

_TEXTS = st.text(alphabet="ab ", max_size=200)


@st.composite
def conversations(draw: st.DrawFn, max_size: int = 30) -> list[Turn]:
    """Turns of all roles. Each call has its own id and results follow right upon it."""
    turns, ids = list[Turn](), count(draw(st.integers(0, 10**9)) * 1000)
    for kind in draw(st.lists(st.sampled_from("uuuaacs"), max_size=max_size)):
        text = draw(_TEXTS)
        if kind == "c":
            calls = [TurnCall(f"c{next(ids)}", "f", {}) for _ in range(draw(st.integers(1, 3)))]
            turns.append(Turn("assistant", text, calls=tuple(calls), num_items=1 + len(calls)))
            turns += [Turn("tool", draw(_TEXTS), call_id=call.id) for call in calls]
        elif kind == "u":
            turns.append(Turn("user", text))
        elif kind == "a":
            turns.append(Turn("assistant", text, reasoning=draw(_TEXTS), num_items=2))
        else:
            turns.append(Turn("system", text))
    return turns
