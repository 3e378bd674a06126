"""A backend that hears every device. Run it with: uvicorn fastapi_app:app

Reads MQTT_HOST, MQTT_PORT, MQTT_BACKEND_PASSWORD and, if it shall add its own login, MQTT_PASSWORD_FILE.
"""

from dataclasses import asdict

from fastapi import FastAPI

from plantops_cli import Message, MQTTSubscriber
from plantops_cli.config import load_settings
from plantops_cli.fastapi import mqtt_lifespan

settings = load_settings()
subscriber = MQTTSubscriber.from_settings(settings)
last_reading: dict[str, object] = {}
last_heartbeat: dict[str, str] = {}


async def handle_telemetry(message: Message) -> None:
    """Keep the latest reading of each device."""
    device_id, reading = message.device_id, message.decode()
    if device_id and reading.error is None:
        last_reading[device_id] = reading.value


async def handle_heartbeat(message: Message) -> None:
    """Keep the moment of the latest sign of life."""
    if message.device_id:
        last_heartbeat[message.device_id] = message.received_at.isoformat()


subscriber.register_handler("devices/+/telemetry", handle_telemetry)
subscriber.register_handler("devices/+/heartbeat", handle_heartbeat)
app = FastAPI(title="Plants", lifespan=mqtt_lifespan(subscriber, settings=settings))


@app.get("/devices")
async def devices() -> dict[str, object]:
    """Show what each device said last."""
    return {name: {"reading": last_reading.get(name), "heartbeat": at} for name, at in last_heartbeat.items()}


@app.get("/health")
async def health() -> dict[str, object]:
    """Show how the subscription fares."""
    return asdict(subscriber.health)
