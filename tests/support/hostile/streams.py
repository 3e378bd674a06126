"""What a broker may send, right or wrong, made of a seed: the same seed makes the same bytes."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.scripted_broker import connack, packet_of, publish, suback

HANG_UP_SHARE = 0.6
WEBSOCKET_SHARE = 0.2
_FLOOD_BYTES = 400_000
_VERSIONS = ("5", "3.1.1")

# MQTT 5, 2.2.2.2: the identifiers of properties by the form of their values
_BYTES = (1, 23, 25, 36, 37, 40, 41, 42)
_TWO_BYTES = (19, 33, 34, 35)
_FOUR_BYTES = (2, 17, 24, 39)
_TEXTS = (3, 8, 18, 21, 26, 28, 31)
_DATA = (9, 22)
_SUBSCRIPTION_IDENTIFIER, _USER_PROPERTY = 11, 38

_STRANGE_TEXTS = (
    b"",
    b"quota exceeded",
    b"\x1b]0;owned\x07\x1b[2J",
    b"\x00\x01\x7f\r\n\xc2\x9b31m",
    "\u202egnp.exe\u200b\ufeff".encode(),
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"x" * 3000,
)
_TOPICS = (
    *(b"devices/%d/telemetry" % number for number in range(5)),
    b"devices/a/heartbeat",
    b"devices/\x1b[2J/telemetry",
    b"devices/+/telemetry",
    b"devices/\xff/telemetry",
    b"devices/\x00/telemetry",
    b"$SYS/broker/uptime",
    b"",
    b"/" * 900,
    b"x" * 60_000,
)
_PAYLOADS = (
    b"",
    b"{}",
    b'{"soil_moisture":41.5}',
    b"[" * 5000,
    b"\xff\x00\x1b",
    b'"\\ud800"',
    b"NaN",
    b"9" * 5000,
    b"x" * 20_000,
)


@dataclass(frozen=True)
class Stream:
    """What a broker does on one connection.

    Attributes:
        seed: what it was made of.
        version: the MQTT version that it was made for.
        connack: the answer to CONNECT.
        before_suback: sent when SUBSCRIBE comes.
        suback: makes the answer of the body of SUBSCRIBE.
        rest: sent behind it.
        sizes: lengths of the pieces in which all of it is sent, used round and round.
        hangs_up: whether the broker hangs up in the end, or waits.
        harmful_frames: the share of WebSocket frames that are not as they should be; None for plain TCP.
    """

    seed: int
    version: str
    connack: bytes
    before_suback: bytes
    suback: Callable[[bytes], bytes]
    rest: bytes
    sizes: Sequence[int]
    hangs_up: bool
    harmful_frames: float | None


def make_stream(seed: int) -> Stream:
    """Make the stream of a seed; every other one is for MQTT 5."""
    version = _VERSIONS[seed % 2]
    maker = _Maker(random.Random(seed), is_v5=version == "5")
    return maker.stream(seed, version)


class _Maker:
    def __init__(self, dice: random.Random, *, is_v5: bool) -> None:
        self.dice = dice
        self.is_v5 = is_v5
        self.version = 5 if is_v5 else 4
        # how many packets break a rule: none, so that much is heard; one, so that it is reached; or many
        self.harm = dice.choice((0.0, 0.0, 0.02, 0.4))

    def stream(self, seed: int, version: str) -> Stream:
        dice = self.dice
        return Stream(
            seed=seed,
            version=version,
            connack=self.first_answer(),
            before_suback=self.packets(3) if dice.random() < 0.2 else b"",
            suback=self.second_answer(),
            rest=self.rest(),
            sizes=dice.choice(((1 << 20,), (1, 2, 3, 5, 1 << 20), (7, 300), (1, 4096), (16_384, 1))),
            hangs_up=dice.random() < HANG_UP_SHARE,
            harmful_frames=dice.choice((0.0, 0.02, 0.3)) if dice.random() < WEBSOCKET_SHARE else None,
        )

    def first_answer(self) -> bytes:
        dice, right = self.dice, connack(0, version=self.version)
        roll = dice.random()
        if roll < 0.88:
            return right
        if roll < 0.96:
            return self.connack()
        return dice.choice((self.mutated(right), self.packet() + right, right + right, self.noise()))

    def second_answer(self) -> Callable[[bytes], bytes]:
        dice, version = self.dice, self.version
        roll = dice.random()
        codes = self.some((0, 1, 2, 3, 0x7F, 0x80, 0x87, 0x97, 0xFF), 4)
        wrong = dice.choice((self.packet(), self.noise(), b"", self.suback()))
        place, byte = dice.randrange(64), dice.randrange(256)
        # most of the messages that follow are of no higher QoS
        granted = [2] if dice.random() < 0.8 else "grant"

        def answer(subscribe: bytes) -> bytes:
            right = suback(subscribe, granted, version=version)
            if roll < 0.87:
                return right
            if roll < 0.92:
                return suback(subscribe, codes, version=version)
            if roll < 0.96:
                at = place % len(right)
                return right[:at] + bytes([byte]) + right[at + 1 :]
            return wrong

        return answer

    def rest(self) -> bytes:
        dice = self.dice
        match dice.randrange(10):
            case 0:
                return self.noise()
            case 1:
                return self.flood()
            case 2:
                return self.packets(20) + self.mutated(self.packets(3))
            case 3:
                return self.mutated(self.packets(20))
            case 4:
                return self.packets(8)[: dice.randrange(200)]
            case 5:
                return self.packets(10) + self.last_straw()
            case 6:
                return self.packets(3) + self.longer_than_life()
            case 7 | 8:
                return self.last_straw()
        return self.packets(40)

    def packets(self, count: int) -> bytes:
        return b"".join(self.packet() for _ in range(self.dice.randint(1, count)))

    def packet(self) -> bytes:
        """A packet as it may come at any time, or one that may not."""
        dice = self.dice
        if dice.random() >= self.harm:
            return dice.choices((self.publish, self.acknowledgement, self.pingresp), (8, 3, 1))[0]()
        kinds = (self.publish, self.acknowledgement, self.suback, self.connack, self.disconnect, self.auth)
        packet = dice.choice((*kinds, self.of_any_kind))()
        return self.mutated(packet) if dice.random() < 0.2 else packet

    def publish(self) -> bytes:
        """A PUBLISH, most with a topic that may be."""
        dice = self.dice
        qos = 3 if self.is_harmful() else dice.randrange(3)
        topic = dice.choice(_TOPICS if dice.random() < 0.2 else _TOPICS[:6])
        payload = dice.choice(_PAYLOADS)
        if not self.is_harmful():
            plain = publish(topic, payload, qos=qos, mid=self.mid(), version=self.version)
            return bytes([plain[0] | dice.choice((0, 0, 1, 8, 9))]) + plain[1:]
        body = len(topic).to_bytes(2, "big") + topic + (self.mid().to_bytes(2, "big") if qos else b"")
        return packet_of(0x30 | qos << 1, body + self.properties() + payload)

    def pingresp(self) -> bytes:
        """A PINGRESP that nobody asked for."""
        return b"\xd0\x00"

    def acknowledgement(self) -> bytes:
        """A PUBACK, PUBREC, PUBREL or PUBCOMP, for a packet that there was or not."""
        dice = self.dice
        body = self.mid().to_bytes(2, "big")
        if self.is_v5 and self.is_harmful():
            body += bytes([self.code()]) + (self.properties() if dice.random() < 0.5 else b"")
        kind = 0x60 if self.is_harmful() else dice.choice((0x40, 0x50, 0x62, 0x62, 0x62, 0x70))
        return packet_of(kind, body)

    def suback(self) -> bytes:
        body = self.mid().to_bytes(2, "big") + self.properties()
        return packet_of(self.dice.choice((0x90, 0xB0)), body + bytes(self.code() for _ in range(self.mid() % 3)))

    def connack(self) -> bytes:
        flags = self.dice.choice((0, 0, 1, 0xFF))
        return packet_of(0x20, bytes([flags, self.dice.choice((0, self.code()))]) + self.properties())

    def disconnect(self) -> bytes:
        return packet_of(
            0xE0, self.dice.choice((b"", bytes([self.code()]), bytes([self.code()]) + self.properties()))
        )

    def auth(self) -> bytes:
        return packet_of(0xF0, self.dice.choice((b"", bytes([self.code()]) + self.properties())))

    def of_any_kind(self) -> bytes:
        """A packet with any type and flags, those that a client sends too."""
        return packet_of(self.dice.randrange(256), self.dice.randbytes(self.dice.randrange(40)))

    def flood(self) -> bytes:
        """Much of the same: also with one packet identifier, or with no end to the exchange of QoS 2."""
        dice = self.dice
        one = dice.choice((self.publish, self.acknowledgement, self.packet))() or b"\0"
        many = one * min(3000, 1 + _FLOOD_BYTES // len(one))
        if dice.random() < 0.5:
            return many
        qos, size = dice.choice((0, 1, 2)), dice.choice((0, 10, 1000))
        count = min(1500, _FLOOD_BYTES // (size + 30))
        return b"".join(
            publish(b"devices/a/telemetry", b"x" * size, qos=qos, mid=mid, version=self.version)
            for mid in range(1, count)
        )

    def last_straw(self) -> bytes:
        """A packet that is read by itself, with anything in it, twice."""
        kinds = (self.acknowledgement, self.suback, self.connack, self.disconnect, self.auth)
        self.harm = 0.5
        packet = self.dice.choice(kinds)()
        return (self.mutated(packet) if self.dice.random() < 0.3 else packet) * 2

    def longer_than_life(self) -> bytes:
        """The head of a packet that promises far more than comes, or has no end."""
        length = self.dice.choice(
            (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80", b"\xff\xff\x7f")
        )
        return bytes([self.dice.choice((0x30, 0x32, 0x34, 0x90, 0x20, 0xD0))]) + length + self.noise()

    def properties(self) -> bytes:
        """The properties of a packet with their length, mostly ones that can be read; none in MQTT 3.1.1."""
        if not self.is_v5:
            return b""
        dice = self.dice
        block = b"".join(self.property() for _ in range(dice.choice((0, 0, 1, 2, 5))))
        size = len(block) if dice.random() < 0.9 else dice.randrange(1 << 14)
        return packet_of(0, block)[1:] if size == len(block) else packet_of(0, b"x" * size)[1:3] + block

    def property(self) -> bytes:
        dice = self.dice
        kind = dice.choice((*_BYTES, *_TWO_BYTES, *_FOUR_BYTES, *_TEXTS, *_DATA, 11, 38, 38, 31, 31))
        text = dice.choice(_STRANGE_TEXTS)
        written = len(text).to_bytes(2, "big") + text
        if kind in _BYTES:
            value = bytes([dice.choice((0, 1, 2, 255))])
        elif kind in _TWO_BYTES:
            value = dice.choice((b"\0\0", b"\0\1", b"\xff\xff"))
        elif kind in _FOUR_BYTES:
            value = dice.choice((b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff"))
        elif kind == _SUBSCRIPTION_IDENTIFIER:
            value = dice.choice((b"\0", b"\1", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"))
        else:
            value = written * 2 if kind == _USER_PROPERTY else written
        return bytes([kind if dice.random() < 0.95 else dice.randrange(256)]) + value

    def mutated(self, data: bytes) -> bytes:
        """Bytes with a few of them changed, left out, doubled or put in."""
        dice, changed = self.dice, bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(len(changed) + 1)
            match dice.randrange(5):
                case 0:
                    changed[at : at + 1] = bytes([dice.randrange(256)])
                case 1:
                    del changed[at : at + dice.randint(1, 4)]
                case 2:
                    changed[at:at] = dice.randbytes(dice.randint(1, 4))
                case 3:
                    del changed[at:]
                case 4:
                    changed[at:at] = changed[at : at + 20]
        return bytes(changed)

    def noise(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((1, 2, 5, 40, 3000)))

    def code(self) -> int:
        """A reason code: of the right ones some, of all the rest any (MQTT 5, 2.4)."""
        return self.dice.choice(
            (0, 4, 0x10, 0x80, 0x81, 0x82, 0x87, 0x8E, 0x93, 0x9C, 0x9D, self.dice.randrange(256))
        )

    def mid(self) -> int:
        """A packet identifier: few ones, so that they come again."""
        return 0 if self.is_harmful() else self.dice.choice((1, 1, 2, 3, 4, 5, 65_535))

    def is_harmful(self) -> bool:
        return self.dice.random() < self.harm

    def some(self, choices: Sequence[int], most: int) -> list[int]:
        return [self.dice.choice(choices) for _ in range(self.dice.randrange(most + 1))]
