"""Whatever happens to several models: never too much memory, nobody forgotten, no model taken away
from whoever holds it."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gateway.models.manager.manager import ModelManager
from gateway.models.manager.slot import Slot
from runtime.errors import DeadlineExceeded, EngineOverloaded, EngineUnavailable
from tests.kit.managed import manager, runner_of, slot, spec
from tests.kit.virtual_time import run_virtually

NAMES = "abcd"
LIMIT_GB = 3.0
EXPECTED = (DeadlineExceeded, EngineOverloaded, EngineUnavailable)


class Use(Struct, frozen=True):
    """A request. `patience` is how long it waits for its model, `gives_up` when its client leaves;
    all in seconds."""

    name: str
    pause: float
    seconds: float
    patience: float
    gives_up: float


class Order(Struct, frozen=True):
    """What an admin, or an accident, does to a model."""

    name: str
    pause: float
    what: str


SECONDS = st.sampled_from([0.0, 0.05, 0.5, 3.0, 12.0, 45.0])
USES = st.builds(
    Use,
    name=st.sampled_from(NAMES),
    pause=SECONDS,
    seconds=SECONDS,
    patience=st.sampled_from([1.0, 30.0, 900.0]),
    gives_up=st.sampled_from([0.2, 4.0, 10_000.0, 10_000.0]),
)
ORDERS = st.builds(
    Order,
    name=st.sampled_from(NAMES),
    pause=SECONDS,
    what=st.sampled_from(["load", "unload", "restart", "breaks", "is mended"]),
)


async def use(models: ModelManager, wish: Use) -> str:
    await asyncio.sleep(wish.pause)
    lease = models.hold(wish.name)
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(wish.gives_up):
            await lease.loaded(started + wish.patience)
            found = next(each for each in models if each.name == wish.name)
            end = loop.time() + wish.seconds
            while loop.time() < end:
                assert runner_of(found).is_running, "a lease outlives its model"
                await asyncio.sleep(min(0.5, end - loop.time()))
        return "served"
    except EXPECTED as error:
        assert loop.time() - started <= wish.patience + 0.01
        return type(error).__name__
    except TimeoutError:
        return "left"
    finally:
        lease.release()


async def order(models: ModelManager, wish: Order) -> None:
    await asyncio.sleep(wish.pause)
    found = next(each for each in models if each.name == wish.name)
    match wish.what:
        case "load":
            models.load(wish.name)
        case "unload":
            await models.unload(wish.name)
        case "restart":
            models.restart(wish.name)
        case "breaks":
            runner_of(found).failure = "It is broken."
        case "is mended":
            runner_of(found).failure = ""


def check_limit(slots: Sequence[Slot]) -> None:
    running = [each for each in slots if runner_of(each).is_running]
    used = sum(each.spec.memory_gb for each in running if each.spec.memory_gb != "auto")
    assert used <= LIMIT_GB, [each.name for each in running]


async def play(uses: list[Use], orders: list[Order]) -> None:
    sizes = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 3.0}
    slots = [
        slot(spec(name, memory_gb=gb, idle_seconds=20.0 * (name == "b")), pid=number)
        for number, (name, gb) in enumerate(sizes.items(), 1)
    ]
    models = manager(slots, limit_gb=LIMIT_GB)
    await models.start()
    for each in slots:
        runner_of(each).on_start = lambda: check_limit(slots)
    async with asyncio.timeout(20_000):
        ordering = [asyncio.create_task(order(models, each)) for each in orders]
        outcomes = await asyncio.gather(*(use(models, each) for each in uses))
        await asyncio.gather(*ordering)
    for each in slots:
        assert (each.num_users, each.num_waiting) == (0, 0)
        runner_of(each).failure = ""
    patient = [w for w in uses if w.patience == 900.0 and w.gives_up == 10_000.0]
    if not orders and len(uses) <= 5:
        served = [o for u, o in zip(uses, outcomes, strict=True) if u in patient]
        assert set(served) <= {"served"}, "whoever waits long enough is served"
    await asyncio.sleep(100)
    for name in NAMES:  # and whatever has been, each model can be had afterwards
        (await models.acquire(name, asyncio.get_running_loop().time() + 600)).release()
    await models.stop()
    assert not any(runner_of(each).is_running for each in slots)


@settings(max_examples=150, deadline=None)
@given(uses=st.lists(USES, max_size=14), orders=st.lists(ORDERS, max_size=6))
def test_random_use(uses: list[Use], orders: list[Order]) -> None:
    run_virtually(play(uses, orders))


def test_as_few_loads_as_an_oracle() -> None:
    """Requests one after the other, over four models of which two fit: loads are exactly those of
    a list that forgets the least recently used."""

    async def scene(names: str) -> list[int]:
        slots = [slot(spec(name, memory_gb=1.5)) for name in NAMES]
        models = manager(slots, limit_gb=LIMIT_GB)
        await models.start()
        for name in names:
            (await models.acquire(name)).release()
            await asyncio.sleep(0.1)
        return [each.num_loads for each in slots]

    names = "".join(NAMES[(i * i + i // 3) % 4] for i in range(200))
    kept: list[str] = []
    loads = dict.fromkeys(NAMES, 0)
    for name in names:
        if name in kept:
            kept.remove(name)
        else:
            loads[name] += 1
            kept = kept[-1:]
        kept.append(name)
    assert run_virtually(scene(names)) == list(loads.values())
