"""litellm is loaded by the first real call, off the loop, and by nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support.openai_server import OpenAIServer


def run(script: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints for `script`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MNESIS_", "LITELLM_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_importing_the_clients_loads_no_litellm() -> None:
    script = """
        import sys, mnesis, mnesis.llm.resolve, mnesis.llm.litellm, mnesis.llm.retry, mnesis.testing
        print([name for name in ("litellm", "openai", "tiktoken", "httpx", "stamina") if name in sys.modules])
    """
    assert run(script) == "[]"


def test_the_mock_loads_no_litellm() -> None:
    script = """
        import asyncio, sys
        from mnesis.config import RetryConfig
        from mnesis.llm.base import LLMRequest
        from mnesis.llm.resolve import resolve
        from mnesis.llm.retry import complete_with_retry
        request = LLMRequest(model="openai/gpt-4o", messages=[{"role": "user", "content": "hi"}])
        reply = asyncio.run(complete_with_retry(resolve(None), request, RetryConfig()))
        print(reply.text[:9], "litellm" in sys.modules)
    """
    assert run(script, MNESIS_MOCK_LLM="1") == "[Mock LLM False"


FIRST_CALL = """
    import asyncio, os, sys, threading
    from mnesis.llm.base import LLMRequest
    from mnesis.llm.litellm import LiteLLM

    before = dict(os.environ)
    importer = []

    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name == "litellm":
                importer.append((threading.current_thread() is threading.main_thread(),
                                 os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP")))

    sys.meta_path.insert(0, Watch())

    async def main():
        options = {"api_base": sys.argv[1], "api_key": "sk-x"}
        request = LLMRequest(model="openai/m", messages=[{"role": "user", "content": "hi"}], options=options)
        replies = await asyncio.gather(*(LiteLLM().complete(request) for _ in range(3)))
        print([reply.text for reply in replies], [piece async for piece in LiteLLM().stream(request)][-1].text)

    asyncio.run(main())
    asyncio.run(main())
    import litellm
    print(importer)
    print(os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP"), litellm.suppress_debug_info, litellm.telemetry)
"""


CALLED = "['Hello world', 'Hello world', 'Hello world'] Hello world"


def test_the_first_call_imports_off_the_loop_and_offline(openai_server: OpenAIServer) -> None:
    # The process also ends by itself after calls in two loops.
    printed = run(FIRST_CALL, openai_server.url).splitlines()
    assert printed == [CALLED, CALLED, "[(False, 'True')]", "None True False"]


def test_a_price_list_setting_of_the_user_is_left_alone(tmp_path: Path) -> None:
    """A stub shows what litellm sees during its import, without the seconds that this takes."""
    (tmp_path / "litellm.py").write_text(
        "import os\nencoding = None\nprint(os.environ['LITELLM_LOCAL_MODEL_COST_MAP'])"
    )
    script = """
        import asyncio, os, sys
        sys.path.insert(0, sys.argv[1])
        from mnesis.llm.litellm import LiteLLM
        asyncio.run(LiteLLM().prepare())
        print(os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP"))
    """
    assert run(script, str(tmp_path), LITELLM_LOCAL_MODEL_COST_MAP="true").split() == ["true", "true"]
    assert run(script, str(tmp_path)).split() == ["True", "None"]
