"""The first bytes on a connection: those of a CONNACK, or of somebody who speaks something else. Pure.

Whoever waits for the rest of a packet that is none waits in vain: the S of an SSH server, and the 2 of a mail
server, begin MQTT packets of many bytes.
"""

from plantops_cli.stream.packets import MalformedPacketError

_CONNACK, _DISCONNECT = 0x20, 0xE0
_ENOUGH_BYTES = 3
_CONTINUED = 0x80


class NotMQTTError(MalformedPacketError):
    """The other side has said something, and it is no MQTT.

    Args:
        said: what it has said so far.
    """

    def __init__(self, said: bytes) -> None:
        super().__init__("the first bytes are no MQTT")
        self.said = said


class Greeting:
    """Looks at the first bytes of a connection, however few come at once.

    Attributes:
        is_over: whether enough was seen.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._begin = b""

    def look_at(self, data: bytes) -> None:
        """Look at what has come.

        Raises:
            NotMQTTError: no answer to CONNECT begins like this (MQTT 5, 3.2).
        """
        begin = self._begin + data
        if begin and not _may_answer(begin):
            raise NotMQTTError(begin)
        self._begin, self.is_over = begin[:_ENOUGH_BYTES], len(begin) >= _ENOUGH_BYTES


def _may_answer(begin: bytes) -> bool:
    if begin[0] == _DISCONNECT:  # of brokers that refuse like this
        return True
    if begin[0] != _CONNACK or (len(begin) > 1 and begin[1] < 2):
        return False
    # the flags of a CONNACK are 0 or 1 (MQTT 5, 3.2.2.1)
    return len(begin) < _ENOUGH_BYTES or bool(begin[1] & _CONTINUED) or begin[2] <= 1
