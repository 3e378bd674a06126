"""A broker that sends at QoS 2 and never a PUBREL, in front of the command itself."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.support.processes import COMMAND
from tests.support.scripted_broker import DISCONNECT, ScriptedBroker, publish, serving

MOST_BYTES = 100 * 1024 * 1024
# a busy machine takes long for 120 MB, one message after the other
PATIENCE_SECONDS = 90.0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize(
    ("qos", "told", "count", "size"),
    [
        (1, b"\x82", 100, 1_000_000),
        (2, b"\x93", 100, 1_000_000),
        (2, b"\x93", 60_000, 2_000),
        # the first of them is refused, however many are behind it
        pytest.param(1, b"\x82", 60_000, 2_000, marks=pytest.mark.long),
    ],
)
async def test_it_is_told_so_and_fills_no_memory(qos: int, told: bytes, count: int, size: int) -> None:
    payload = bytes(size)
    script = b"".join(publish(b"devices/a/telemetry", payload, qos=2, mid=mid) for mid in range(1, count + 1))
    async with serving(ScriptedBroker(subacks=[[qos, qos]], after_suback=script)) as broker:
        arguments = ("listen", "-p", str(broker.port), "-q", str(qos), "-V", "5", "-o", "jsonl")
        listening = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env=os.environ | {"MQTT_BACKEND_PASSWORD": "x", "MQTT_HOST": "127.0.0.1"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await broker.wait_for(DISCONNECT, seconds=PATIENCE_SECONDS)
            status = Path(f"/proc/{listening.pid}/status").read_text()
        finally:
            listening.terminate()
            await listening.wait()
        assert broker.of_kind(DISCONNECT)[0].body == told
        peak = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert peak is not None
        assert int(peak[1]) * 1024 < MOST_BYTES
