"""The type of the devices that a trace names."""

from __future__ import annotations

import msgspec

from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import DeviceSpec, find_device


class _Device(msgspec.Struct):
    """What is needed of an entry of `deviceProperties`, in its own spelling."""

    name: str = ""
    numSms: int | None = None  # noqa: N815 - Kineto's key


_DEVICES = msgspec.json.Decoder(list[_Device])


def device_types(properties: str | None) -> set[tuple[str, int | None]]:
    """Distinct names and compute units in `RANKS.devices`; empty if there are none or they cannot be read."""
    try:
        return {(device.name, device.numSms) for device in _DEVICES.decode(properties or "[]")}
    except msgspec.MsgspecError:
        return set()


def device_spec(properties: str | None) -> DeviceSpec | None:
    """The one known type of a host's devices; None if they are named by no trace.

    Raises `UsageError` if the type is not known or the host has several.
    """
    types = device_types(properties)
    if not types:
        return None
    if len(types) > 1:
        names = ", ".join(sorted(name for name, _ in types))
        raise UsageError(
            f"the host has devices of several types: {names}", "declare the dense peak of one device in TFLOP/s"
        )
    name, num_units = types.pop()
    return find_device(name, num_units)
