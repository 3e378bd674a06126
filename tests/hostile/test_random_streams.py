"""A broker may send anything: the subscriber goes on, or ends in an error of ours, soon and quietly.

A failure names the seed of its stream; ``PLANTOPS_SEED=N`` listens to that stream alone.
"""

import gc
import logging
import os
import random
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile.listening_to import Heard, listen_to
from tests.support.hostile.streams import make_stream

BLOCK = 100
SHORT_BLOCKS, LONG_BLOCKS = 3, 30
MOST_MORE_MEMORY_BYTES = 64 * 1024 * 1024
STATUS = Path("/proc/self/status")
SEED = os.environ.get("PLANTOPS_SEED")
# the same streams at every run in CI, others at each run elsewhere
FIRST_OF_LONG = 1000 if "CI" in os.environ else random.SystemRandom().randrange(1 << 32)


@pytest.fixture(autouse=True)
def little_to_collect() -> Iterator[None]:
    """Make it cheap to collect what each stream leaves, and keep the log quiet, which names every message."""
    gc.collect()
    gc.freeze()
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    gc.unfreeze()


@pytest.mark.parametrize("block", range(SHORT_BLOCKS))
def test_a_stream_of_anything_is_heard_or_ends_in_an_error_of_ours(block: int) -> None:
    assert_heard(range(block * BLOCK, (block + 1) * BLOCK) if SEED is None else [int(SEED)])


@pytest.mark.long
@pytest.mark.parametrize("block", range(LONG_BLOCKS))
def test_many_more_streams_are_heard_or_end_in_an_error_of_ours(block: int) -> None:
    first = FIRST_OF_LONG + block * BLOCK
    assert_heard(range(first, first + BLOCK))


def test_the_same_seed_makes_the_same_stream() -> None:
    first, again, other = make_stream(7), make_stream(7), make_stream(9)
    assert first.connack + first.rest == again.connack + again.rest != other.connack + other.rest
    assert first.suback(b"\0\1\0\0\1a\1") == again.suback(b"\0\1\0\0\1a\1")


def assert_heard(seeds: range | list[int]) -> None:
    forget_the_peak()
    before = memory_bytes()
    heard = {seed: listen_to(make_stream(seed)) for seed in seeds}
    wrong = [f"PLANTOPS_SEED={seed}: {'; '.join(one.complaints)}" for seed, one in heard.items() if one.complaints]
    assert not wrong, "\n".join(wrong)
    assert memory_bytes() - before < MOST_MORE_MEMORY_BYTES
    if len(heard) == BLOCK:
        assert_worth_the_while(list(heard.values()))


def assert_worth_the_while(heard: list[Heard]) -> None:
    """Most streams came beyond the CONNACK, and some brought messages."""
    assert sum(one.connections > 0 for one in heard) > BLOCK / 2
    assert sum(one.messages > 0 for one in heard) > BLOCK / 5


def memory_bytes() -> int:
    """The most memory that this process has had, on Linux since ``forget_the_peak``."""
    if STATUS.exists():
        peak = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
        return int(peak[1]) * 1024 if peak else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def forget_the_peak() -> None:
    """Let the most memory be what there is now, where the system can (proc(5), clear_refs)."""
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")
