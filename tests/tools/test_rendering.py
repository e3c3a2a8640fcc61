from __future__ import annotations

from mnesis import ToolSpec
from mnesis.tools import anthropic_tools, chat_tools

TOOL = ToolSpec("look", "Look at something.", {"type": "object", "properties": {"at": {"type": "string"}}})


def test_a_tool_takes_the_shape_of_each_provider() -> None:
    (chat,), (anthropic,) = chat_tools([TOOL]), anthropic_tools([TOOL])
    assert chat["type"] == "function"
    assert chat["function"] == {"name": "look", "description": TOOL.description, "parameters": TOOL.parameters}
    assert anthropic == {"name": "look", "description": TOOL.description, "input_schema": TOOL.parameters}
