"""The cache: absolute age, bound, wiping."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmip_contract.custody import WrapContext
from kmipd.keys.cache import CacheKey, KeyCache, cache_key

CONTEXT = WrapContext(keyspace=UUID(int=1), uid="u", object_type=2, algorithm=3, length=256)


def key(number: int) -> CacheKey:
    return cache_key(CONTEXT.model_copy(update={"uid": str(number)}), b"record")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_reading_does_not_prolong_a_keys_age() -> None:
    clock = Clock()
    cache = KeyCache(max_age=60, max_entries=10, clock=clock)
    cache.put(key(1), b"k" * 32)
    for _ in range(59):
        clock.now += 1
        assert cache.get(key(1)) == b"k" * 32
    cache.put(key(1), b"k" * 32)
    clock.now += 1
    assert cache.get(key(1)) is None
    assert len(cache) == 0


async def test_expired_keys_are_wiped_without_being_read() -> None:
    cache = KeyCache(max_age=0.05, max_entries=10)
    cache.put(key(1), b"a")
    await asyncio.sleep(0.03)
    cache.put(key(2), b"b")
    async with asyncio.timeout(10):
        while len(cache):
            await asyncio.sleep(0.01)
    cache.put(key(3), b"c")  # the timer starts again after the cache was empty
    async with asyncio.timeout(10):
        while len(cache):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["expire", "flush", "bound"])
async def test_what_leaves_the_cache_is_overwritten(way: str) -> None:
    clock = Clock()
    cache = KeyCache(max_age=60, max_entries=1, clock=clock)
    cache.put(key(1), b"secret")
    held = cache._entries[key(1)][1]
    handed_out = cache.get(key(1))
    if way == "expire":
        clock.now += 60
        cache.expire()
    elif way == "flush":
        cache.flush()
    else:
        cache.put(key(2), b"other")
    assert held == bytearray(6)
    assert handed_out == b"secret"
    assert cache.get(key(1)) is None
    cache.flush()


async def test_age_zero_keeps_nothing() -> None:
    cache = KeyCache(max_age=0, max_entries=10)
    cache.put(key(1), b"secret")
    assert len(cache) == 0


def test_another_record_or_attribute_is_another_entry() -> None:
    variants = [
        cache_key(CONTEXT, b"r"),
        cache_key(CONTEXT, b"s"),
        *(
            cache_key(CONTEXT.model_copy(update={name: value}), b"r")
            for name, value in {"uid": "v", "object_type": 7, "algorithm": 4, "length": 128, "generation": 2}.items()
        ),
    ]
    assert len(set(variants)) == len(variants)


@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "tick"]), st.integers(0, 5)), max_size=60),
    st.integers(0, 4),
)
def test_never_more_than_the_bound_nor_older_than_the_age(steps: list[tuple[str, int]], bound: int) -> None:
    async def run() -> None:
        clock = Clock()
        cache = KeyCache(max_age=3, max_entries=bound, clock=clock)
        put_at: dict[int, float] = {}
        for action, number in steps:
            if action == "tick":
                clock.now += number
            elif action == "put":
                if cache.get(key(number)) is None:
                    put_at[number] = clock.now
                cache.put(key(number), bytes([number]))
            else:
                found = cache.get(key(number))
                if found is not None:
                    assert found == bytes([number])
                    assert clock.now - put_at[number] < 3
            assert len(cache) <= bound
        cache.flush()

    asyncio.run(run())
