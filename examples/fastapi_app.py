"""A backend that hears every device. Run it with: uvicorn fastapi_app:app

Reads MQTT_HOST, MQTT_PORT, MQTT_BACKEND_PASSWORD and, if it shall add its own login, MQTT_PASSWORD_FILE.
"""

from dataclasses import asdict

from fastapi import FastAPI

from plantops_cli import FleetMonitor, MQTTSubscriber, load_settings, mqtt_lifespan

settings = load_settings()
subscriber = MQTTSubscriber.from_settings(settings)
monitor = FleetMonitor.follow(subscriber)
last_reading: dict[str, dict[str, float]] = {}


@subscriber.on("devices/{device_id}/telemetry", concurrency=50)
async def keep_latest(reading: dict[str, float], device_id: str) -> None:
    """Keep the latest reading of each device."""
    last_reading[device_id] = reading


app = FastAPI(title="Plants", lifespan=mqtt_lifespan(subscriber, settings=settings))


@app.get("/devices")
async def devices() -> dict[str, object]:
    """Show how each device fares, and what it said last."""
    reports = monitor.presence.reports(monitor.now)
    return {one.device_id: {"state": one.state, "reading": last_reading.get(one.device_id)} for one in reports}


@app.get("/health")
async def health() -> dict[str, object]:
    """Show how the subscription fares."""
    return asdict(subscriber.health)
