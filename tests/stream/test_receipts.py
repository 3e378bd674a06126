"""Messages on their way, and their receipts."""

import asyncio

import pytest

from plantops_cli.stream.receipts import MOST, UNTOLD_MOST, Receipts, Subacks, Unanswered, most_on_their_way


@pytest.mark.parametrize(
    ("granted", "is_v5", "most"),
    [
        ({"ReceiveMaximum": 20}, True, 20),
        ({"ReceiveMaximum": 1}, True, 1),
        ({"ReceiveMaximum": 0}, True, MOST),
        ({"ReceiveMaximum": 65_535}, True, MOST),
        ({}, True, MOST),
        ({}, False, UNTOLD_MOST),
    ],
)
def test_no_more_are_on_their_way_than_the_broker_takes(
    granted: dict[str, object], is_v5: bool, most: int
) -> None:
    assert most_on_their_way(granted, is_v5=is_v5) == most


async def test_each_gets_the_receipt_of_its_own_message() -> None:
    receipts = Receipts(2)
    first, second = receipts.expect(1, 1), receipts.expect(2, 1)
    assert receipts.came(2, 0x87)
    assert receipts.came(1, 0x10)
    assert (await first, await second) == (0x10, 0x87)


async def test_a_receipt_of_nothing_of_ours_is_left_to_others() -> None:
    receipts = Receipts(1)
    receipts.expect(1, 1)
    assert receipts.came(1, 0)
    assert not receipts.came(1, 0)
    assert not receipts.came(7, 0)


async def test_who_gives_up_waiting_keeps_the_turn_until_the_receipt_has_come() -> None:
    receipts = Receipts(1)
    await receipts.turn(1)
    receipts.expect(1, 1).cancel()
    next_turn = asyncio.create_task(receipts.turn(2))
    await asyncio.sleep(0)
    assert not next_turn.done()
    assert receipts.came(1, 0)
    await next_turn


async def test_qos_0_waits_for_no_turn() -> None:
    receipts = Receipts(1)
    await receipts.turn(1)
    await receipts.turn(0)
    receipts.give_back(0)
    assert receipts._turns.locked()


async def test_the_end_settles_all_and_lets_the_next_ones_see_it() -> None:
    receipts = Receipts(1)
    await receipts.turn(1)
    receipt = receipts.expect(1, 1)
    next_turn = asyncio.create_task(receipts.turn(1))
    receipts.end()
    receipts.end()
    assert await receipt is Unanswered.LOST
    await next_turn


async def test_a_message_that_did_not_go_out_gives_its_turn_back() -> None:
    receipts = Receipts(1)
    for outcome in (Unanswered.NOT_SENT, Unanswered.LOST):
        assert await receipts.in_turn(1, lambda outcome=outcome: outcome) is outcome  # type: ignore[misc]  # mypy infers no lambda with a default
    with pytest.raises(ZeroDivisionError):
        await receipts.in_turn(1, lambda: 1 // 0)
    async with asyncio.timeout(1):
        await receipts.turn(1)


async def test_each_subscribe_gets_its_own_answer() -> None:
    subacks = Subacks()
    first, second = subacks.expect(1), subacks.expect(2)
    assert subacks.came(2, [0x87])
    assert subacks.came(1, [1, 0])
    assert (await first, await second) == ([1, 0], [0x87])


async def test_an_answer_that_nobody_waits_for_any_more_is_still_ours() -> None:
    subacks = Subacks()
    subacks.expect(1).cancel()
    assert subacks.came(1, [1])
    assert not subacks.came(1, [1])
