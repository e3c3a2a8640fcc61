"""Tools: functions that the session runs, and calls that you answer yourself.

MNESIS_MOCK_LLM=1 uv run python examples/03_tool_use.py
ANTHROPIC_API_KEY=… uv run python examples/03_tool_use.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from mnesis import MnesisSession, ToolPart, ToolResultPart, ToolStatus

DEPARTURES = {"Lisbon": "21:10", "Porto": "08:35"}


def next_train(city: str) -> str:
    """When the next train to a city leaves."""
    # An unknown city raises a KeyError, which is reported to the model.
    return f"{DEPARTURES[city]} to {city}"


# A tool described to the model, but run by you: its calls come back as result.tool_calls.
BOOK_SEAT = {
    "type": "function",
    "function": {
        "name": "book_seat",
        "description": "Book one seat. Asks the user first.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with MnesisSession.open(model=model, db_path=Path(directory) / "tools.db") as session:
            print("1. A function, run by the session")
            result = await session.send("When does the train to 'Lisbon' leave? Ask next_train.", tools=[next_train])
            print(f"{result.text}\n")

            print("2. A call that you answer")
            result = await session.send("Please book_seat for 'Lisbon'.", tools=[BOOK_SEAT])
            for call in result.tool_calls:
                print(f"The model wants {call.tool_name}({call.input})")
                answer = ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output="seat 14A")
                result = await session.send([answer], tools=[BOOK_SEAT])
            print(f"{result.text}\n")

            print("3. A turn with a tool call from elsewhere, recorded")
            await session.record(
                "And back from Porto?",
                [
                    ToolPart(
                        tool_name="next_train",
                        tool_call_id="elsewhere-1",
                        input={"city": "Porto"},
                        output="08:35 to Porto",
                        status=ToolStatus(state="completed"),
                    ),
                    "At 08:35.",
                ],
            )
            for message in await session.messages():
                calls = ", ".join(f"{call.tool_name}({call.input})" for call in message.tool_calls)
                results = ", ".join(part.output for part in message.tool_results)
                print(f"{message.seq:>2} {message.role:<9} {calls or results or message.text_content()[:60]!r}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
