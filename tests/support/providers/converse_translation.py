"""The translation of a Converse request into a request of the Messages API.

Pure functions, no I/O.
"""

from __future__ import annotations

from tests.support.providers.strict_server import Json


def to_anthropic(body: Json, model: str) -> Json:
    """Return a Converse request as the request of the Messages API that Claude gets."""
    tools = [
        {"name": t["toolSpec"]["name"], "input_schema": t["toolSpec"]["inputSchema"].get("json")}
        if "toolSpec" in t
        else t
        for t in (body.get("toolConfig") or {}).get("tools") or []
    ]
    inference = body.get("inferenceConfig") or {}
    optional = {
        "system": _with_marks(body.get("system") or []),
        "tools": _with_marks(tools),
        "temperature": inference.get("temperature"),
        "top_p": inference.get("topP"),
        **(body.get("additionalModelRequestFields") or {}),
    }
    messages = [
        {"role": message.get("role"), "content": _with_marks(message.get("content") or [])}
        for message in body.get("messages") or []
    ]
    required = {"model": model, "messages": messages, "max_tokens": inference.get("maxTokens", 4096)}
    return required | {name: value for name, value in optional.items() if value}


def _with_marks(blocks: list[Json]) -> list[Json]:
    """Translate blocks. A cache point becomes the mark of the block before it."""
    translated: list[Json] = []
    for block in blocks:
        if "cachePoint" not in block:
            translated.append(_block(block))
        elif translated:
            ttl = {"ttl": block["cachePoint"]["ttl"]} if "ttl" in block["cachePoint"] else {}
            translated[-1] = {**translated[-1], "cache_control": {"type": "ephemeral", **ttl}}
    return translated


def _block(block: Json) -> Json:
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    if "toolUse" in block:
        call = block["toolUse"]
        return {"type": "tool_use", "id": call.get("toolUseId"), "name": call.get("name"), "input": call.get("input")}
    if "toolResult" in block:
        result = block["toolResult"]
        content = [_block(inner) for inner in result.get("content") or []]
        return {"type": "tool_result", "tool_use_id": result.get("toolUseId"), "content": content}
    if "image" in block:
        source = {"type": "base64", "media_type": f"image/{block['image']['format']}"}
        return {"type": "image", "source": source | {"data": block["image"]["source"].get("bytes", "")}}
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if "redactedContent" in reasoning:
            return {"type": "redacted_thinking", "data": reasoning["redactedContent"]}
        text = reasoning.get("reasoningText") or {}
        return {"type": "thinking", "thinking": text.get("text"), "signature": text.get("signature")}
    return block
