"""``--contract MODULE:MODEL``: a pydantic model that telemetry payloads must fit."""

import importlib
import sys
from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from plantops_cli.errors import ConfigError


def load_contract(name: str) -> Callable[[bytes], str | None]:
    """Return a function that tells what is wrong with a payload, or None when nothing is.

    Args:
        name: a module and a model in it, as ``plants:Telemetry``; the working directory is searched for it last.

    Raises:
        ConfigError: there is no such module, or no such model in it.
    """
    module_name, _, model_name = name.partition(":")
    if not module_name or not model_name:
        raise ConfigError(f"--contract {name!r}: not MODULE:MODEL", hint="for example plants:Telemetry")
    # last: what others put into that folder takes the place of no module that is installed, nor of what it imports
    sys.path.append("")
    try:
        model = getattr(importlib.import_module(module_name), model_name, None)
    except Exception as exc:  # whatever the module does while it is imported
        raise ConfigError(f"--contract {name!r}: {module_name} does not import: {exc}") from exc
    finally:
        sys.path.remove("")
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConfigError(f"--contract {name!r}: {module_name} has no pydantic model {model_name}")

    def find_fault(payload: bytes) -> str | None:
        try:
            model.model_validate_json(payload)
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, fault["loc"]))
            return f"{place}: {fault['msg']}" if place else fault["msg"]
        except Exception as exc:  # a validator of the model's own may raise anything
            return f"{model_name} failed: {type(exc).__name__}"
        return None

    return find_fault
