"""One step of an examination."""

import asyncio

from plantops_cli.doctor.step import BrokenError, StepReport, StepResult, take
from plantops_cli.errors import BrokerUnreachableError

UNREACHABLE = BrokerUnreachableError("broker:1883: nothing listens there", endpoint="broker:1883", hint="start it")


async def test_a_step_with_nothing_to_mend_is_ok_and_was_timed() -> None:
    async def trial() -> StepReport:
        await asyncio.sleep(0.01)
        return StepReport(["it answers"])

    step = await take("TCP", trial)
    assert (step.name, step.result, step.details, step.cure, step.error) == (
        "TCP",
        StepResult.OK,
        ("it answers",),
        None,
        None,
    )
    assert step.seconds >= 0.01


async def test_a_step_that_goes_on_with_something_to_mend_is_a_warning() -> None:
    async def trial() -> StepReport:
        return StepReport(["granted at QoS 0"], "messages may be lost")

    step = await take("subscribe", trial)
    assert (step.result, step.cure, step.error) == (StepResult.WARNING, "messages may be lost", None)


async def test_what_is_broken_is_said_by_its_error_and_cured_by_its_hint() -> None:
    async def trial() -> StepReport:
        raise BrokenError(UNREACHABLE)

    step = await take("TCP", trial)
    assert (step.result, step.error) == (StepResult.FAILED, UNREACHABLE)
    assert (step.details, step.cure) == (("broker:1883: nothing listens there",), "start it")


async def test_unless_the_step_knows_more() -> None:
    async def trial() -> StepReport:
        raise BrokenError(UNREACHABLE, "127.0.0.1: refused", "::1: refused", cure="look at the listener")

    step = await take("TCP", trial)
    assert (step.details, step.cure) == (("127.0.0.1: refused", "::1: refused"), "look at the listener")
