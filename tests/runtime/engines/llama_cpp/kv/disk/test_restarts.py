"""Prefixes that outlive the process, on random workloads without a model."""

import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engines.llama_cpp.kv.disk import restoring
from runtime.engines.llama_cpp.kv.disk.names import folder_name
from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.sweep import Limits
from runtime.engines.llama_cpp.kv.prefix_tree import Block
from runtime.messages.request import Request
from tests.kit.cell_world import World, expected_answer, world_request
from tests.kit.disk_tiers import MODEL, block_files, disk_tier

PROMPT = list(range(1, 104))


def run_one(world: World, each: Request) -> int:
    """How many of its tokens were not computed; its answer is right."""
    world.waiting.append(each)
    world.run()
    assert world.finished[each.request_id] == expected_answer(each)
    return world.cached_at_end[each.request_id]


def restarted(folder: Path, each: Request, **world: int) -> int:
    """The same in a process that has just been started."""
    size = world.get("block_tokens", 4)
    with disk_tier(folder, block_tokens=size) as disk:
        fields = {"num_cells": 512, "max_num_seqs": 2, "budget": 32, **world}
        return run_one(World(**fields, disk=disk), each)


def test_after_a_restart_the_full_blocks_of_a_prompt_are_read_back(tmp_path: Path):
    assert restarted(tmp_path, world_request("0", PROMPT, max_tokens=1)) == 0
    assert restarted(tmp_path, world_request("1", PROMPT, max_tokens=1)) == 100
    assert restarted(tmp_path, world_request("2", [*PROMPT[:50], 7], max_tokens=1)) == 48
    assert restarted(tmp_path, world_request("3", [7, *PROMPT], max_tokens=1)) == 0


def test_the_answers_of_a_conversation_are_read_back_too(tmp_path: Path):
    first = world_request("0", PROMPT, max_tokens=9)
    restarted(tmp_path, first)
    history = PROMPT + expected_answer(first)

    assert restarted(tmp_path, world_request("1", [*history, 9, 9], max_tokens=1)) == 108


def test_what_memory_has_no_room_for_comes_from_the_disk(tmp_path: Path):
    with disk_tier(tmp_path) as disk:
        world = World(num_cells=256, max_num_seqs=1, budget=64, max_num_bytes=0, disk=disk)
        assert run_one(world, world_request("0", PROMPT, max_tokens=1)) == 0
        assert disk.flush(20)
        assert run_one(world, world_request("1", PROMPT, max_tokens=1)) == 100


def test_those_who_come_together_have_a_block_read_once(tmp_path: Path):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    with disk_tier(tmp_path) as disk:
        world = World(num_cells=1024, max_num_seqs=4, budget=64, disk=disk)
        world.waiting = [world_request(str(n), [*PROMPT, n], max_tokens=1) for n in range(4)]
        world.run()

        usage = disk.take_usage()
    assert usage.num_hit_tokens == 4 * 100
    assert usage.num_read_bytes < 2 * sum(len(path.read_bytes()) for path in block_files(tmp_path))
    assert world.num_computed == 3 + 4  # the end of the common prompt, and each one's own token


def test_a_block_is_never_read_for_another_salt(tmp_path: Path):
    for number, salt in enumerate(["", "a", '["", "a"]', "b"]):
        each = world_request(str(number), PROMPT, max_tokens=1, cache_salt=salt)
        assert restarted(tmp_path, each) == 0
        again = world_request(f"{number}0", PROMPT, max_tokens=1, cache_salt=salt)
        assert restarted(tmp_path, again) == 100


def test_blocks_of_another_model_are_not_read_even_under_its_name(tmp_path: Path):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    [folder] = tmp_path.iterdir()
    other = b"o" * 32
    folder.rename(tmp_path / folder_name(other))
    with disk_tier(tmp_path, identity=other) as disk:
        world = World(num_cells=256, max_num_seqs=1, budget=64, disk=disk)
        assert run_one(world, world_request("1", PROMPT, max_tokens=1)) == 0


def interrupt(world: World, action: str, victim: str) -> None:
    if action == "leave":
        world.scheduler.remove(victim)
    else:
        world.scheduler.preempt(victim)
        world.take_back()
    world.check()


prompts = st.lists(st.integers(1, 2), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_everybody_gets_their_own_answer_whatever_is_on_disk(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    """Over restarts, with blocks lost, damaged and put in place of others."""
    folder = tmp_path_factory.mktemp("blocks")
    block_tokens = data.draw(st.integers(1, 8), label="block")
    number = 0
    for _ in range(data.draw(st.integers(1, 3), label="processes")):
        with disk_tier(folder, block_tokens=block_tokens) as disk:
            world = World(
                num_cells=data.draw(st.integers(60, 160), label="cells"),
                max_num_seqs=data.draw(st.integers(1, 5), label="seqs"),
                budget=data.draw(st.integers(6, 32), label="budget"),
                max_num_bytes=data.draw(st.sampled_from([0, 60, 10_000]), label="bytes"),
                block_tokens=block_tokens,
                disk=disk,
            )
            wanted = {}
            for _ in range(data.draw(st.integers(1, 8), label="requests")):
                each = world_request(
                    str(number := number + 1),
                    data.draw(prompts),
                    max_tokens=data.draw(st.integers(1, 12)),
                    priority=data.draw(st.integers(0, 2)),
                    cache_salt=data.draw(st.sampled_from(["", "", "other"])),
                )
                world.waiting.append(each)
                wanted[each.request_id] = expected_answer(each)
                for _ in range(data.draw(st.integers(0, 4), label="steps")):
                    world.step()
                action = data.draw(st.sampled_from(["", "", "", "leave", "yield"]))
                chosen = data.draw(st.integers(0, 4), label="victim")
                running = world.scheduler.sequences()  # how far they are is the disk's choice
                if running and action:
                    victim = running[chosen % len(running)].request_id
                    interrupt(world, action, victim)
                    wanted.pop(victim if action == "leave" else "", None)
            world.run()
            assert world.finished == wanted
            assert world.cache.usage == 0
        spoil(folder, random.Random(data.draw(st.integers(0, 1000), label="damage")))


def spoil(folder: Path, chance: random.Random) -> None:
    """Every tenth block is lost, every tenth damaged, every tenth another one's."""
    files = block_files(folder)
    for path in files:
        fate = chance.randrange(10)
        if fate == 0:
            path.unlink()
        elif fate == 1:
            content = bytearray(path.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        elif fate == 2 and (other := chance.choice(files)).exists() and other != path:
            shutil.copyfile(other, path)


def test_damaged_blocks_are_removed_and_written_anew(tmp_path: Path):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    files = block_files(tmp_path)
    for path in files[::2]:
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in files}

    assert restarted(tmp_path, world_request("1", PROMPT, max_tokens=1)) == 4 * len(files[1::2])
    assert restarted(tmp_path, world_request("2", PROMPT, max_tokens=1)) == 100
    assert all(path.read_bytes() != before[path] for path in files[::2])


class Stuck(BlockStore):
    """A disk that does not answer until it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MODEL, Limits(1_000_000, 0))
        self.answers = threading.Event()

    def read(self, key: bytes) -> bytes | None:
        self.answers.wait(20)
        return super().read(key)


def test_a_prompt_does_not_wait_for_a_disk_that_is_slower_than_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    monkeypatch.setattr(restoring, "PATIENCE_SECONDS", 0.0)
    store = Stuck(tmp_path)
    with disk_tier(tmp_path, store=store) as disk:
        world = World(num_cells=256, max_num_seqs=1, budget=64, disk=disk)
        try:
            assert run_one(world, world_request("1", PROMPT, max_tokens=1)) == 0
        finally:
            store.answers.set()
    assert world.num_computed == len(PROMPT)


def test_others_go_on_while_an_adapter_waits_for_the_disk(tmp_path: Path):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    store = Stuck(tmp_path)
    with disk_tier(tmp_path, store=store) as disk:
        world = World(num_cells=512, max_num_seqs=2, budget=64, disk=disk)
        world.waiting += [
            world_request("1", [3, 2, 1], max_tokens=50),
            world_request("2", PROMPT, max_tokens=1, lora="sql"),
        ]
        try:
            world.step()
            for _ in range(20):
                assert world.step().num_decoding == 1
        finally:
            store.answers.set()
        world.run()

    assert world.cached_at_end["2"] == 100


def test_beside_a_stream_a_step_loads_for_its_share_of_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    restarted(tmp_path, world_request("0", PROMPT, max_tokens=1))
    clock = [100.0]
    with disk_tier(tmp_path) as disk:
        world = World(num_cells=512, max_num_seqs=2, budget=64, disk=disk)
        world.waiting.append(world_request("1", [3, 2, 1], max_tokens=300))
        for _ in range(5):
            world.step()
        loads = count_loads(world, monkeypatch, clock)
        world.waiting.append(world_request("2", PROMPT, max_tokens=1))
        while "2" not in world.finished:
            before = len(loads)
            disk.wait()
            batch = world.step()
            assert batch.num_decoding >= 1, "the stream goes on"
            assert len(loads) - before <= 1, "a block takes longer than a step of the stream"
        world.run()

    assert world.cached_at_end["2"] == 4 * len(loads) == 100


def count_loads(world: World, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> list[Block]:
    """The blocks that are loaded from now on; each takes a hundredth of a second, and nothing else
    takes time."""
    loads: list[Block] = []
    load = world.memory.load

    def slow(slot: int, block: Block, start: int, end: int) -> None:
        load(slot, block, start, end)
        loads.append(block)
        clock[0] += 0.01

    monkeypatch.setattr(world.memory, "load", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    return loads
