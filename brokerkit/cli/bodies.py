"""Bodies of messages as the command line shows them: decoded where that is safe, else as text or base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from brokerkit.broker import Broker
from brokerkit.errors import DecodeError

__all__ = ["body_fields", "readable"]


def body_fields(broker: Broker, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a body as one field for JSON: `payload` if it could be decoded, else `text`, else `base64`.

    Only what the broker's `accept` allows is decoded, so that looking runs no code. A body of bytes is `text` if it is
    UTF-8, else `base64`.
    """
    try:
        payload = broker.codec.decode(body, headers)
    except DecodeError:
        payload = body
    if isinstance(payload, bytes):
        try:
            return {"text": payload.decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(payload).decode("ascii")}
    return {"payload": payload}


def readable(fields: Mapping[str, Any]) -> str:
    """Return one line for people of what `body_fields` made."""
    if "payload" in fields:
        return json.dumps(fields["payload"], ensure_ascii=False, default=str)
    return fields["text"] if "text" in fields else f"base64:{fields['base64']}"
