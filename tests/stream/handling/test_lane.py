"""Which message is handled next: never two of one key at once, never one before another of its key."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.stream.handling.lane import Lane
from plantops_cli.stream.handling.ledger import Work
from tests.support.handling import part_of, registration, work

HANDLER = registration()


class Keyed:
    """A lane, the key of each message in it, and how often a key was asked for."""

    def __init__(self, concurrency: int = 2) -> None:
        self.keys: dict[Work, Hashable] = {}
        self.asked: Counter[Work] = Counter()
        self.lane = Lane(concurrency, self._key_of)

    def _key_of(self, one: Work) -> Hashable:
        self.asked[one] += 1
        return self.keys[one]

    def put(self, *keys: Hashable) -> list[Work]:
        """Let a message of each key wait."""
        works = [work(part=part_of(HANDLER)) for _ in keys]
        for one, key in zip(works, keys, strict=True):
            self.keys[one] = key
            self.lane.put(one)
        return works

    def take_all(self) -> list[Work]:
        """Take what can be taken by any number of workers."""
        taken = []
        while (one := self.lane.take()) is not None:
            taken.append(one)
        return taken


def run(concurrency: int, keys: list[str], seed: int) -> None:
    """Let workers that fail now and then handle messages, and check the order after each step."""
    rng, keyed = random.Random(seed), Keyed(concurrency)
    lane, in_hand, put_off, done = keyed.lane, list[Work](), list[Work](), defaultdict[Hashable, list[Work]](list)
    waiting, came = deque(keys), defaultdict[Hashable, list[Work]](list)
    while waiting or in_hand or put_off or lane.has_work:
        step = rng.choice(["put", "take", "take", "done", "done", "put off", "resume"])
        if step == "put" and waiting:
            (one,) = keyed.put(waiting.popleft())
            came[keyed.keys[one]].append(one)
        elif step == "take" and len(in_hand) < concurrency and (taken := lane.take()) is not None:
            in_hand.append(taken)
        elif step == "done" and in_hand:
            finished = in_hand.pop(rng.randrange(len(in_hand)))
            lane.done(finished)
            done[keyed.keys[finished]].append(finished)
        elif step == "put off" and in_hand and rng.random() < 0.5:
            put_off.append(in_hand.pop(rng.randrange(len(in_hand))))
            lane.put_off(put_off[-1])
        elif step == "resume" and put_off:
            lane.resume(put_off.pop(rng.randrange(len(put_off))))
        assert lane.in_hand == len(in_hand) <= concurrency
        assert len({keyed.keys[one] for one in in_hand + put_off}) == len(in_hand + put_off)
    assert done == came
    assert not lane._held


@given(st.integers(1, 5), st.lists(st.sampled_from("abcd"), max_size=40), st.integers(0, 2**32))
def test_messages_of_a_key_are_done_in_their_order_and_none_is_lost_whoever_fails(
    concurrency: int, keys: list[str], seed: int
) -> None:
    run(concurrency, keys, seed)


def test_others_go_on_while_those_of_a_key_wait() -> None:
    keyed = Keyed()
    first, second, other = keyed.put("a", "a", "b")
    assert keyed.take_all() == [first, other]
    keyed.lane.done(first)
    assert keyed.take_all() == [second]


def test_who_takes_one_at_a_time_needs_no_keys() -> None:
    keyed = Keyed(1)
    keyed.put("a", "b", "a")
    for _ in range(3):
        taken = keyed.lane.take()
        assert taken is not None
        keyed.lane.done(taken)
    assert not keyed.asked


def test_who_takes_one_at_a_time_takes_others_while_one_is_put_off() -> None:
    keyed = Keyed(1)
    first, second, other, last = keyed.put("a", "a", "b", "b")
    assert keyed.lane.take() is first
    keyed.lane.put_off(first)
    assert keyed.lane.take() is other
    keyed.lane.done(other)
    keyed.lane.resume(first)
    assert keyed.lane.take() is first
    keyed.lane.done(first)
    assert keyed.lane.take() is second
    keyed.lane.done(second)
    assert keyed.lane.take() is last


def test_a_hot_key_costs_no_more_for_each_message_however_many_wait() -> None:
    keyed = Keyed(50)
    works = keyed.put(*["hot"] * 10_000)
    handled = []
    while taken := keyed.take_all():
        assert len(taken) == 1
        handled += taken
        keyed.lane.done(taken[0])
    assert handled == works
    assert keyed.asked == Counter(works)


def test_a_message_whose_key_is_told_differently_each_time_is_let_go_all_the_same() -> None:
    lane = Lane(3, lambda _: random.random())
    taken = []
    for _ in range(3):
        lane.put(work())
        taken.append(lane.take())
    for one in taken:
        assert one is not None
        lane.done(one)
    assert (lane.in_hand, lane._held) == (0, {})


def test_nothing_is_taken_of_a_lane_that_is_blocked() -> None:
    keyed = Keyed()
    (one,) = keyed.put("a")
    keyed.lane.is_blocked = True
    assert not keyed.lane.has_work
    assert keyed.lane.take() is None
    keyed.lane.is_blocked = False
    assert keyed.lane.take() is one


# Many at once for one handler that blocks


def test_messages_for_the_same_handler_are_taken_together_up_to_a_limit() -> None:
    keyed = Keyed(1)
    works = keyed.put(*"abcd")
    first = keyed.lane.take()
    assert first is works[0]
    assert keyed.lane.take_alike(first, 3) == works[:3]
    assert keyed.lane.in_hand == 3


def test_what_was_taken_together_and_not_begun_is_the_next_to_be_taken() -> None:
    keyed = Keyed(1)
    works = keyed.put(*"abcd")
    first = keyed.lane.take()
    assert first is works[0]
    keyed.lane.take_alike(first, 3)
    keyed.lane.give_back(works[1:3])
    keyed.lane.done(first)
    assert keyed.lane.in_hand == 0
    for one in works[1:]:
        assert keyed.lane.take() is one
        keyed.lane.done(one)


@pytest.mark.parametrize("handlers", [[registration()], [HANDLER, registration()]])
def test_only_messages_for_that_one_handler_are_taken_together(handlers: list[object]) -> None:
    keyed = Keyed(1)
    first, other = keyed.put("a", "b")
    other.calls = part_of(*handlers).calls  # type: ignore[arg-type]  # they are registrations
    assert keyed.lane.take() is first
    assert keyed.lane.take_alike(first, 20) == [first]


def test_nothing_is_taken_together_while_a_key_is_held() -> None:
    keyed = Keyed(1)
    failed, second, third = keyed.put("a", "b", "a")
    assert keyed.lane.take() is failed
    keyed.lane.put_off(failed)
    assert keyed.lane.take() is second
    assert keyed.lane.take_alike(second, 20) == [second]
    assert keyed.lane.in_hand == 1
    assert third not in keyed.take_all()


# What is discarded


def test_what_is_in_hand_stays_and_all_that_was_not_begun_is_discarded_but_for_what_is_wanted() -> None:
    keyed = Keyed()
    in_hand, parked, wanted, fresh = keyed.put("a", "a", "a", "b")
    assert keyed.lane.take() is in_hand
    assert keyed.take_all() == [fresh]
    (unseen,) = keyed.put("c")
    assert list(keyed.lane.waiting) == [unseen, parked, wanted]
    assert keyed.lane.discard(lambda one: one is wanted) == [unseen, parked]
    keyed.lane.done(in_hand)
    assert keyed.take_all() == [wanted]


def test_what_was_put_off_is_not_discarded_and_what_is_its_turn_but_not_begun_is() -> None:
    keyed = Keyed(3)
    failed, first, second, third = keyed.put("a", "b", "b", "b")
    keyed.take_all()
    failed.attempts = 1
    keyed.lane.put_off(failed)
    keyed.lane.resume(failed)
    keyed.lane.done(first)
    assert {*keyed.lane.waiting} == {second, third}
    assert keyed.lane.discard(lambda one: one is third) == [second]
    assert keyed.take_all() == [failed, third]


def test_discarding_lets_go_of_each_key_that_nobody_holds_any_more() -> None:
    keyed = Keyed()
    first, _, _ = keyed.put("a", "a", "a")
    keyed.take_all()
    keyed.lane.done(first)
    keyed.lane.discard(lambda _: False)
    assert (keyed.lane.has_work, keyed.lane._held) == (False, {})
