"""In which order messages are acknowledged, and when their memory is free."""

from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.stream.handling.ledger import ACKNOWLEDGED_TOGETHER, Ledger, Work
from plantops_cli.stream.packets import Packet
from tests.support.handling import NOW, again, ledger, packet, work

ORDERS = st.integers(1, 120).flatmap(lambda count: st.permutations(range(count)))


class Told:
    """What a ledger has acknowledged and released."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.sizes: list[int] = []
        self.is_connected = True
        self.dues = 0
        self.ledger = Ledger(self._acknowledge, self.sizes.append, self._due)

    def _acknowledge(self, packets: list[Packet]) -> bool:
        if self.is_connected:
            self.acknowledged += [each[2] for each in packets]
        return self.is_connected

    def _due(self) -> None:
        self.dues += 1

    def take(self, count: int, size: int = 0) -> list[Work]:
        """Take a batch of so many messages."""
        self.ledger.begin(count, size)
        first = len(self.ledger) + 1
        return [work(mid=mid, of=self.ledger) for mid in range(first, first + count)]


def followed_by(earlier: Ledger, *, take: int = 0) -> Told:
    """The ledger of a connection that resumes the session of another one."""
    told = Told()
    told.ledger = ledger(told._acknowledge, told.sizes.append, earlier.close())
    told.take(take)
    return told


def bring_again(told: Told, one: Work) -> Work:
    """Let a message come once more on the next connection."""
    sent = again(one.packet)
    earlier = told.ledger.find_earlier(sent)
    heir = Work(sent, NOW, told.ledger)
    told.ledger.entries.append(heir)
    if earlier is not None:
        earlier.bequeath(heir)
    return heir


# The order


@given(ORDERS)
def test_messages_are_acknowledged_in_the_order_in_which_they_came_whatever_is_done_first(
    order: list[int],
) -> None:
    told = Told()
    works = told.take(len(order))
    for settled, position in enumerate(order, 1):
        works[position].settle()
        assert told.acknowledged == list(range(1, len(told.acknowledged) + 1))
        if settled % ACKNOWLEDGED_TOGETHER == 0:
            assert len(told.acknowledged) == _from_first({*order[:settled]})
    told.ledger.flush()
    assert told.acknowledged == list(range(1, len(order) + 1))
    assert len(told.ledger) == 0


def _from_first(settled: set[int]) -> int:
    count = 0
    while count in settled:
        count += 1
    return count


def test_what_is_done_with_is_due_once_until_it_is_flushed() -> None:
    told = Told()
    first, second, third = told.take(3)
    first.settle()
    second.settle()
    assert (told.dues, told.acknowledged) == (1, [])
    told.ledger.flush()
    third.settle()
    assert (told.dues, told.acknowledged) == (2, [1, 2])


def test_a_message_of_several_parts_is_done_with_when_each_of_them_is() -> None:
    told = Told()
    (whole,) = told.take(1)
    whole.outstanding = 2
    parts = [Work(whole.packet, NOW, told.ledger, parent=whole) for _ in range(2)]
    parts[1].settle()
    told.ledger.flush()
    assert told.acknowledged == []
    parts[0].settle()
    told.ledger.flush()
    assert told.acknowledged == [1]


def test_what_cannot_be_told_now_is_told_later() -> None:
    told = Told()
    first, second = told.take(2, size=7)
    told.is_connected = False
    first.settle()
    told.ledger.flush()
    assert told.acknowledged == []
    told.is_connected = True
    second.settle()
    told.ledger.flush()
    assert (told.acknowledged, told.sizes) == ([1, 2], [7])


# Memory


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.randoms(use_true_random=False), st.booleans())
def test_the_memory_of_each_batch_is_released_once_when_the_last_of_it_is_done_with(
    counts: list[int], random: object, is_closed_between: bool
) -> None:
    told = Told()
    works = [each for size, count in enumerate(counts) for each in told.take(count, size)]
    order = list(works)
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    for position, each in enumerate(order):
        if is_closed_between and position == len(order) // 2:
            told.ledger.close()
        each.settle()
    assert len(told.sizes) == len(set(told.sizes))
    told.ledger.flush()
    assert told.sizes == list(range(len(counts)))


def test_at_the_end_all_memory_is_released_once_whatever_is_still_in_hand() -> None:
    told = Told()
    first, _, _ = *told.take(2, 5), *told.take(1, 6)
    told.ledger.end()
    assert sorted(told.sizes) == [5, 6]
    first.settle()
    told.ledger.flush()
    told.ledger.end()
    assert sorted(told.sizes) == [5, 6]
    assert told.acknowledged == []


# The next connection


def test_a_closed_ledger_acknowledges_nothing_and_still_lets_go() -> None:
    told = Told()
    (only,) = told.take(1, 5)
    assert told.ledger.close() == [only]
    only.settle()
    told.ledger.flush()
    assert (told.acknowledged, told.sizes) == ([], [5])


def test_what_was_in_hand_and_comes_again_is_acknowledged_when_that_is_done() -> None:
    told = Told()
    (only,) = told.take(1)
    next_one = followed_by(told.ledger)
    bring_again(next_one, only)
    next_one.ledger.flush()
    assert next_one.acknowledged == []
    only.settle()
    next_one.ledger.flush()
    assert next_one.acknowledged == [1]


def test_what_was_done_with_and_not_acknowledged_is_so_at_once_when_it_comes_again() -> None:
    told = Told()
    _, second = told.take(2)
    second.settle()
    next_one = followed_by(told.ledger)
    heir = bring_again(next_one, second)
    assert heir.is_settled


def test_a_message_is_known_over_any_number_of_connections() -> None:
    told = Told()
    (only,) = told.take(1)
    second = followed_by(told.ledger)
    bring_again(second, only)
    third = followed_by(second.ledger)
    bring_again(third, only)
    assert only.root.ledger is third.ledger
    only.settle()
    for each in (told, second, third):
        each.ledger.flush()
    assert third.acknowledged == [1]
    assert len(told.ledger) == len(second.ledger) == len(third.ledger) == 0


def test_a_message_is_known_although_a_connection_between_ended_before_it_came_again() -> None:
    told = Told()
    (only,) = told.take(1)
    third = followed_by(followed_by(told.ledger).ledger)
    bring_again(third, only)
    only.settle()
    third.ledger.flush()
    assert third.acknowledged == [1]


def test_another_message_with_the_identifier_of_one_in_hand_is_a_new_one() -> None:
    told = Told()
    told.take(1)
    next_one = followed_by(told.ledger)
    assert next_one.ledger.find_earlier(again(packet("b", mid=1))) is None
    assert next_one.ledger.find_earlier(again(packet("a", mid=1))) is None


def test_what_is_not_marked_as_sent_again_is_a_new_message() -> None:
    told = Told()
    (only,) = told.take(1)
    assert followed_by(told.ledger).ledger.find_earlier(only.packet) is None


def test_qos_0_does_not_come_again() -> None:
    told = Told()
    work(of=told.ledger)
    assert told.ledger.close() == []


# What is kept


def test_what_is_kept_holds_up_what_came_behind_it() -> None:
    told = Told()
    first, second = told.take(2)
    first.keep()
    second.settle()
    told.ledger.flush()
    assert told.acknowledged == []


def test_what_is_kept_is_a_new_message_when_it_comes_again() -> None:
    told = Told()
    first, second = told.take(2, 5)
    first.keep()
    second.settle()
    next_one = followed_by(told.ledger)
    assert next_one.ledger.find_earlier(again(first.packet)) is None
    assert next_one.ledger.find_earlier(again(second.packet)) is second
    assert told.sizes == [5]


def test_what_is_kept_after_its_connection_has_ended_waits_for_nothing() -> None:
    told = Told()
    first, _ = told.take(2, 5)
    told.ledger.close()
    first.keep()
    assert len(told.ledger) == 1


def test_what_is_kept_after_it_came_again_is_kept_on_the_next_connection_and_let_go_on_the_one_before() -> None:
    told = Told()
    (only,) = told.take(1, 5)
    next_one = followed_by(told.ledger)
    heir = bring_again(next_one, only)
    only.keep()
    next_one.ledger.flush()
    assert (heir.is_kept, heir.is_settled, next_one.acknowledged) == (True, False, [])
    assert (len(told.ledger), told.sizes) == (0, [5])


def test_a_part_that_is_kept_keeps_the_whole_message() -> None:
    told = Told()
    (whole,) = told.take(1)
    whole.outstanding = 2
    kept, other = (Work(whole.packet, NOW, told.ledger, parent=whole) for _ in range(2))
    kept.keep()
    other.settle()
    told.ledger.flush()
    assert (whole.is_kept, told.acknowledged) == (True, [])
