"""What cannot be published, and what nobody may change."""

from plantops_cli import Connected, Health, Lost, Message, MQTTSubscriber, PlantopsError, Retry, Status


async def publish(mqtt: MQTTSubscriber, level: int) -> None:
    await mqtt.publish()  # wrong: on which topic?
    await mqtt.publish(b"a", b"1")  # wrong: topics are text
    await mqtt.publish("a", b"1", 1)  # wrong: it has a name
    await mqtt.publish("a", b"1", qos=3)  # wrong
    await mqtt.publish("a", b"1", qos=level)  # wrong: any number at all
    await mqtt.publish("a", b"1", wait="long")  # wrong
    await mqtt.publish("a", b"1", wait=None)  # wrong: it is bounded
    await mqtt.publish("a", b"1", retain="yes")  # wrong
    await mqtt.publish("a", b"1", properties=["content-type"])  # wrong
    await mqtt.publish("a", b"1", propertys={})  # wrong: misspelt
    mqtt.publish("a", b"1")  # wrong: never awaited
    granted: int = await mqtt.publish("a", b"1")  # wrong: it returns nothing
    print(granted)


async def handle(message: Message) -> None:
    message.topic = "b"  # wrong: a message does not change
    message.payload += b"!"  # wrong
    message.qos = 2  # wrong
    message.captures["device_id"] = "b"  # wrong
    message.properties["content-type"] = "a"  # wrong
    message.note = "mine"  # wrong: it has no room for that
    await message.json()  # wrong: it is no coroutine
    message.json()["soil_moisture"]  # wrong: nobody knows yet what it is
    print(message.payload.soil_moisture)  # wrong: bytes
    print(message.device.device_id)  # wrong: None for another topic
    message.device_id.upper()  # wrong
    message.reply("heard")  # wrong: never awaited
    await message.reply()  # wrong: what?
    await message.reply("heard", qos=3)  # wrong
    await message.reply("heard", topic="b")  # wrong: the message names it
    await message.reply("heard", wait="long")  # wrong


def make() -> None:
    Message.of()  # wrong
    Message.of("a", {"soil_moisture": 41})  # wrong: bytes or text
    Message.of("a", qos=3)  # wrong
    Message.of("a", b"", 1)  # wrong: it has a name
    Message("a", b"")  # wrong: Message.of does with that


def look(health: Health, status: Status, policy: Retry) -> None:
    health.received = 0  # wrong: a snapshot
    health.outages.append(None)  # wrong
    health.connected_since.isoformat()  # wrong: None without a connection
    policy.attempts = 5  # wrong: frozen
    print(health.recieved)  # wrong: misspelt
    print(status.endpoint)  # wrong: some steps have none
    if isinstance(status, Lost):
        print(status.endpoint)  # wrong
    if isinstance(status, Connected):
        status.granted["a"] = 1  # wrong
    raise PlantopsError("a", reason_code=1)  # wrong: some of its kind have that
