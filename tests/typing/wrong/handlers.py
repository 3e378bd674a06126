"""Handlers that cannot be called right, and options that do not exist."""

from collections.abc import AsyncGenerator, Generator

from plantops_cli import Message, MQTTSubscriber, Retry, dead_letter


async def store(message: Message) -> None: ...


def note(message: Message) -> None: ...


def pages(message: Message) -> Generator[str, None, None]:
    yield message.topic


async def lines(message: Message) -> AsyncGenerator[str, None]:
    yield message.topic


def length(message: Message) -> int:
    return len(message.payload)


class Database:
    """A handler with a state, and some that are none."""

    async def __call__(self, message: Message) -> None: ...
    def rows(self, message: Message) -> Generator[str, None, None]:
        yield message.topic


def register(mqtt: MQTTSubscriber, message: Message) -> None:
    mqtt.register_handler("a", "store")  # wrong: text cannot be called
    mqtt.register_handler("a", None)  # wrong: nor can None
    mqtt.register_handler("a", note(message))  # wrong: it is called already
    mqtt.register_handler("a", store(message))  # wrong: so is this one
    mqtt.register_handler("a", [note])  # wrong: one at a time
    mqtt.register_handler(store)  # wrong: for which topics?
    mqtt.register_handler(["a", "b"], store)  # wrong: one filter at a time
    mqtt.register_handler("a", pages)  # wrong: a generator, which a call does not run
    mqtt.register_handler("a", lines)  # wrong: an asynchronous one
    mqtt.register_handler("a", Database().rows)  # wrong: a method that is one
    mqtt.register_handler("a", length)  # wrong: nobody looks at what it returns
    mqtt.register_handler("a", store, 5)  # wrong: options have names
    mqtt.register_handler("a", store, blocking=True)  # wrong: a coroutine function runs on the event loop
    mqtt.register_handler("a", Database(), blocking=True)  # wrong: and so does this
    mqtt.register_handler("a", note, blocking="yes")  # wrong
    mqtt.register_handler("a", note, concurrency="5")  # wrong
    mqtt.register_handler("a", note, concurrency=None)  # wrong
    mqtt.register_handler("a", note, timeout_seconds="long")  # wrong
    mqtt.register_handler("a", note, timeout=5)  # wrong: no such option
    mqtt.register_handler("a", note, qos=1)  # wrong: which subscribe has


def choose_keys(mqtt: MQTTSubscriber) -> None:
    mqtt.register_handler("a", note, key="device_id")  # wrong: no function
    mqtt.register_handler("a", note, key=lambda: 1)  # wrong: it gets the message
    mqtt.register_handler("a", note, key=lambda message, topic: topic)  # wrong: and nothing else
    mqtt.register_handler("a", note, key=lambda message: [message.topic])  # wrong: a list is no key
    mqtt.register_handler("a", note, key=lambda message: message.device_di)  # wrong: misspelt


def choose_policies(mqtt: MQTTSubscriber) -> None:
    mqtt.register_handler("a", note, on_error="drop")  # wrong: no such policy
    mqtt.register_handler("a", note, on_error=dead_letter("b"))  # wrong: that is for Retry
    mqtt.register_handler("a", note, on_error=Retry)  # wrong: the class
    mqtt.register_handler("a", note, on_error=Retry(then="keep"))  # wrong
    mqtt.register_handler("a", note, on_error=Retry(then="plantops/dead"))  # wrong: dead_letter makes one
    mqtt.register_handler("a", note, on_error=Retry(then=note))  # wrong: it gets the error, too
    mqtt.register_handler("a", note, on_error=Retry(attempts="3"))  # wrong
    mqtt.register_handler("a", note, on_error=Retry(3, 0.5))  # wrong: backoff has a name
    mqtt.register_handler("a", note, on_error=Retry(backoff="1s"))  # wrong
    mqtt.register_handler("a", note, on_error=Retry(backoff=lambda: 1.0))  # wrong: it gets the number of attempts
    mqtt.register_handler("a", note, on_error=dead_letter(b"plantops/dead"))  # wrong
    mqtt.register_handler("a", note, on_invalid=note)  # wrong: it gets the error, too
    mqtt.register_handler("a", note, on_invalid="ack")  # wrong


async def subscribe(mqtt: MQTTSubscriber) -> None:
    await mqtt.subscribe("a", store, qos=3)  # wrong
    await mqtt.subscribe("a", store, qos="1")  # wrong
    await mqtt.subscribe("a", store, 1)  # wrong: it has a name
    await mqtt.subscribe("a", "store")  # wrong
    await mqtt.subscribe("a", pages)  # wrong
    await mqtt.subscribe("a", store, blocking=True)  # wrong
    await mqtt.subscribe("a", concurrency=5)  # wrong: of which handler?
    await mqtt.subscribe("a", note, on_error="drop")  # wrong
    mqtt.subscribe("a", note)  # wrong: never awaited


backend = MQTTSubscriber("localhost")


@backend.on("a", blocking=True)  # wrong: a coroutine function runs on the event loop
async def blocks(message: Message) -> None: ...


@backend.on("a")  # wrong: a generator
def yields(message: Message) -> Generator[str, None, None]:
    yield message.topic


@backend.on("a")  # wrong: an asynchronous one
async def streams(message: Message) -> AsyncGenerator[str, None]:
    yield message.topic


@backend.on  # wrong: for which topics?
def hears_nothing(message: Message) -> None: ...


@backend.on("a", concurency=5)  # wrong: misspelt
def misspelt(message: Message) -> None: ...


@backend.on("devices/{device_id}/telemetry", concurrency=5)
async def keeps_its_type(temperature: float, device_id: str) -> None: ...


_ = keeps_its_type("20.5", "a")  # wrong: the decorated function is what it was
_ = keeps_its_type(20.5)  # wrong
