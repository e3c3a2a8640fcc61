"""Items of the OpenAI Agents SDK of every type."""

from __future__ import annotations

from typing import Any

PNG = "data:image/png;base64,iVBORw0KGgo="
# One item of each type of the SDK's union of input items, in the form that the API sends.
EVERY_TYPE: list[dict[str, Any]] = [
    {"role": "user", "content": "plain"},
    {"role": "system", "content": "rules"},
    {"role": "developer", "content": [{"type": "input_text", "text": "more rules"}]},
    {"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": PNG, "detail": "low"},
        {"type": "input_image", "file_id": "file_1", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
    ]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "a picture", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "not that"},
    ]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"q": "a"}', "status": "completed"},
    {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "look", "arguments": "not json"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": PNG}]},
    {"type": "function_call_output", "call_id": "c1", "output": "found", "status": "completed"},
    {"type": "computer_call", "id": "cu_1", "call_id": "c3", "action": {"type": "click", "x": 1, "y": 2, "button": "left"},
     "pending_safety_checks": [], "status": "completed"},
    {"type": "computer_call_output", "call_id": "c3", "output": {"type": "computer_screenshot", "image_url": PNG}},
    {"type": "custom_tool_call", "call_id": "c4", "name": "sql", "input": "SELECT 1"},
    {"type": "custom_tool_call_output", "call_id": "c4", "output": "1"},
    {"type": "local_shell_call", "id": "ls_1", "call_id": "c5", "status": "completed",
     "action": {"type": "exec", "command": ["ls"], "env": {}}},
    {"type": "local_shell_call_output", "id": "c5", "output": "a.txt"},
    {"type": "shell_call", "call_id": "c6", "action": {"commands": ["ls"]}},
    {"type": "shell_call_output", "call_id": "c6", "output": [
        {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
    {"type": "apply_patch_call", "call_id": "c7", "status": "completed",
     "operation": {"type": "delete_file", "path": "a.txt"}},
    {"type": "apply_patch_call_output", "call_id": "c7", "status": "completed", "output": "done"},
    {"type": "file_search_call", "id": "fs_1", "queries": ["a"], "status": "completed", "results": None},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "container_id": "x", "outputs": None, "status": "completed"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "A" * 5_000},
    {"type": "mcp_list_tools", "id": "ml_1", "server_label": "s", "tools": []},
    {"type": "mcp_approval_request", "id": "mr_1", "server_label": "s", "name": "n", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mr_1", "approve": True},
    {"type": "mcp_call", "id": "mc_1", "server_label": "s", "name": "n", "arguments": "{}", "output": "ok"},
    {"type": "item_reference", "id": "msg_9"},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
    {"type": "a_type_of_next_year", "value": [1, None, {"ü": "\U0001f600"}]},
    {"role": "assistant", "content": "the end"},
]  # fmt: skip
