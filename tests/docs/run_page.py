"""Runs the Python blocks of a page, in order and in one namespace: `python run_page.py PAGE [NUMBER]`.

As in a notebook, a block may `await`. Nothing but the loopback interface can be reached. What a block prints is compared
with the `text` block right below it, if there is one ("..." stands for anything).
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import io
import socket
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.docs.pages import Block, python_blocks

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: Any) -> None:
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a page may not reach the network, and this one wants {address}")
    _connect(self, address)


def _stand_in_for_anthropic() -> SimpleNamespace:
    """Answers as the Messages API does; the package is no dependency."""

    def create(*, model: str, max_tokens: int, messages: list[dict[str, Any]], **_: Any) -> SimpleNamespace:
        assert [message["role"] for message in messages][-1] == "user"
        answer = SimpleNamespace(type="text", text="Two particles share one state.")
        return SimpleNamespace(content=[answer], usage=SimpleNamespace(input_tokens=12, output_tokens=7))

    return SimpleNamespace(Anthropic=lambda: SimpleNamespace(messages=SimpleNamespace(create=create)))


def _stand_in_for_openai() -> SimpleNamespace:
    """Answers as the chat-completions API does."""

    async def create(*, model: str, messages: list[dict[str, Any]], **_: Any) -> SimpleNamespace:
        assert messages[-1]["role"] == "user"
        choice = SimpleNamespace(message=SimpleNamespace(content="Paris."))
        return SimpleNamespace(choices=[choice], usage=SimpleNamespace(prompt_tokens=9, completion_tokens=2))

    completions = SimpleNamespace(create=create)
    return SimpleNamespace(AsyncOpenAI=lambda: SimpleNamespace(chat=SimpleNamespace(completions=completions)))


def _compiled(block: Block, page: Path) -> CodeType:
    source = "\n" * (block.line - 1) + block.text
    return compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _run(code: CodeType, namespace: dict[str, Any], runner: asyncio.Runner) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        outcome = eval(code, namespace)  # the project's own documentation
        if asyncio.iscoroutine(outcome):
            runner.run(outcome)
    return printed.getvalue()


def main(page: Path, numbers: list[int]) -> None:
    """Run the page, or the blocks of these numbers."""
    socket.socket.connect = _loopback_only  # type: ignore[method-assign]  # the point of it
    text = page.read_text("utf-8")
    if "import anthropic" in text:
        sys.modules["anthropic"] = _stand_in_for_anthropic()  # type: ignore[assignment]  # stands in for a module
    if "from openai import" in text:
        sys.modules["openai"] = _stand_in_for_openai()  # type: ignore[assignment]  # stands in for a module
    chosen = [block for number, block in enumerate(python_blocks(page)) if not numbers or number in numbers]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    checker = doctest.OutputChecker()
    with asyncio.Runner() as runner:
        for block in chosen:
            printed = _run(_compiled(block, page), namespace, runner)
            if block.output is not None and not checker.check_output(block.output, printed, doctest.ELLIPSIS):
                raise SystemExit(f"{page}:{block.line}: the page shows\n{block.output}\nand it prints\n{printed}")
    print(f"{len(chosen)} blocks were run", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]])
