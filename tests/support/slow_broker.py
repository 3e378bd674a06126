"""A broker that takes its time."""

import asyncio
from dataclasses import dataclass

from tests.support.scripted_broker import CONNECT, SUBSCRIBE, Packet, ScriptedBroker


@dataclass
class SlowBroker(ScriptedBroker):
    """Answers like a scripted broker, but late.

    Args:
        connack_seconds: how late it answers CONNECT.
        suback_seconds: how late it answers SUBSCRIBE.
    """

    connack_seconds: float = 0.0
    suback_seconds: float = 0.0

    def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
        late = {CONNECT: self.connack_seconds, SUBSCRIBE: self.suback_seconds}.get(packet.kind, 0.0)
        answer = super()._answer

        def answer_unless_gone() -> None:
            if not writer.is_closing():
                answer(packet, writer, version=version)

        if late:
            asyncio.get_running_loop().call_later(late, answer_unless_gone)
        else:
            answer(packet, writer, version=version)
