"""Detection of doom loops: a model that calls a tool with identical arguments again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import DoomLoopDetectedPayload
from mnesis.models.message import ToolPart
from mnesis.session.core import SessionCore


def detect_doom_loop(core: SessionCore, calls: Sequence[ToolPart]) -> bool:
    """Count identical tool calls in a row. Returns whether their number has reached `doom_loop_threshold`.

    Publishes DOOM_LOOP_DETECTED when the number reaches the threshold. The count continues across turns.
    """
    threshold, is_looping = core.config.session.doom_loop_threshold, False
    shared = core.shared
    for call in calls:
        signature = _call_signature(call)
        shared.repeated_call_count = shared.repeated_call_count + 1 if signature == shared.last_tool_call else 1
        shared.last_tool_call = signature
        if shared.repeated_call_count == threshold:
            payload = DoomLoopDetectedPayload(core.session_id, call.tool_name, shared.repeated_call_count)
            core.bus.publish(MnesisEvent.DOOM_LOOP_DETECTED, payload)
        is_looping = is_looping or shared.repeated_call_count >= threshold
    return is_looping


def _call_signature(call: ToolPart) -> str:
    """Return the key of identical calls: the tool and its arguments."""
    arguments = call.raw_input if call.raw_input is not None else json.dumps(call.input, sort_keys=True, default=str)
    return f"{call.tool_name}({arguments})"
