"""Counting tokens: exact where a table is at hand, close where none is, never from the network, never failing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.tokens import encodings
from mnesis.tokens.encodings import encoding_for_model
from mnesis.tokens.estimator import TokenEstimator, split_text
from mnesis.tokens.heuristic import heuristic_tokens
from tests.support.samples import sampled

_random = random.Random(11)
NAMES = ["cargo", "index", "reader", "session", "billing", "parser", "cache", "router"]

SAMPLES = {
    "English": "The ferry leaves the harbour at seven, so we should be at the pier a little earlier. Nobody knows yet"
    " whether the storm will pass to the north, but the captain sounded calm when I asked her this morning. If the"
    " crossing is cancelled we will take the night train instead and arrive on Wednesday.",
    "German": "Die Fähre verlässt den Hafen um sieben Uhr, deshalb sollten wir etwas früher an der Anlegestelle sein."
    " Ob das Unwetter nördlich vorbeizieht, ist noch ungewiss. Fällt die Überfahrt aus, nehmen wir den Nachtzug.",
    "French": "Le bac quitte le port à sept heures, nous devrions donc être sur le quai un peu plus tôt. Personne ne"
    " sait encore si la tempête passera au nord, mais la capitaine semblait calme ce matin.",
    "Chinese": "渡轮七点钟离开港口，所以我们应该早一点到码头。现在还没有人知道暴风雨会不会从北边经过，不过船长今天早上听起来"
    "很平静。如果航班取消，我们就改坐夜间火车，星期三到达。",
    "Japanese": "フェリーは七時に港を出るので、少し早めに桟橋に着いたほうがいいでしょう。嵐が北にそれるかどうかはまだ誰にも"
    "分かりませんが、今朝たずねたとき船長は落ち着いた様子でした。",
    "Korean": "배는 일곱 시에 항구를 떠나니까 우리는 조금 더 일찍 부두에 도착해야 합니다. 폭풍이 북쪽으로 지나갈지는 아직 아무도"
    " 모르지만 오늘 아침에 물어봤을 때 선장은 차분해 보였습니다.",
    "Russian": "Паром отходит из порта в семь часов, поэтому нам нужно прийти на пристань немного раньше. Никто пока не"
    " знает, пройдёт ли буря севернее, но капитан сегодня утром говорила спокойно.",
    "Arabic": "تغادر العبارة الميناء في الساعة السابعة، لذلك يجب أن نصل إلى الرصيف قبل ذلك بقليل. لا أحد يعرف حتى الآن"
    " ما إذا كانت العاصفة ستمر شمالا، لكن القبطان بدا هادئا هذا الصباح.",
    "Python": textwrap.dedent(
        '''
        class Harbour:
            """Where ferries wait."""

            def __init__(self, name: str, berths: int = 4) -> None:
                self._berths: list[Ferry | None] = [None] * berths
                self.name = name

            def arrive(self, ferry: Ferry, *, timeout_seconds: float = 30.0) -> int:
                for number, taken in enumerate(self._berths):
                    if taken is None:
                        self._berths[number] = ferry
                        return number
                raise HarbourFullError(f"{self.name}: no berth for {ferry!r} within {timeout_seconds} s")
        '''
    )
    * 2,
    "JSON": json.dumps(
        [
            {"id": n * 7919, "name": f"{NAMES[n % 8]}_{n}", "ratio": n / 7, "tags": NAMES[:3], "ok": True}
            for n in range(20)
        ],
        indent=2,
    ),
    "base64": base64.b64encode(_random.randbytes(2_000)).decode(),
    "hex": "\n".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(20)),
    "emoji": "🛳️ see you at the pier 👋🏽 🌊🌧️ bring a coat 🧥 ok? 😅😂🙏 🇫🇮 👩‍🚀🎒🎉 " * 4,
    "log": "\n".join(
        f"2031-02-{n % 27 + 1:02d}T07:{n % 60:02d}:09.{n * 37 % 1000:03d}Z WARN {NAMES[n % 8]}[{4000 + n}]: retry {n} of"
        f" /api/v2/{NAMES[n % 5]}?page={n * 13} after {n * 91 % 900} ms (code=0x{n * 7919:06x})"
        for n in range(30)
    ),
    "Markdown": "## Crossing\n\n- [x] buy tickets\n- [ ] pack `coats`\n\n| day | pier | time |\n|-----|------|------|\n"
    "| Mon | 4 | 07:00 |\n\n```sh\nferry book --pier 4\n```\n\nSee https://example.org/piers?id=4&lang=en\n" * 2,
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_heuristic_stays_close_to_the_real_count_on(kind: str) -> None:
    text = SAMPLES[kind]
    assert TokenEstimator().is_exact("gpt-4o")
    real = TokenEstimator().estimate(text, "gpt-4o")
    assert 0.75 <= TokenEstimator(heuristic_only=True).estimate(text, "gpt-4o") / real <= 1.35


@pytest.mark.parametrize(("model", "encoding"), [("gpt-4o", "o200k_base"), ("gpt-3.5-turbo", "cl100k_base")])
def test_counts_are_those_of_tiktoken_itself(model: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    (directory,) = [place / "litellm_core_utils" / "tokenizers" for place in encodings.package_directories("litellm")]
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(directory))
    reference = tiktoken.get_encoding(encoding)
    for text in [*SAMPLES.values(), "don't  stop\n\n\tI'LL 12345 naïve"]:
        assert TokenEstimator().estimate(text, model) == len(reference.encode(text, disallowed_special=()))


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("openai/gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openrouter/openai/gpt-4.1-nano", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("azure/gpt-5.1-codex-max", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini-2025-01-31", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("codex-mini-latest", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-16k", "cl100k_base"),
        ("claude-sonnet-4-5", "claude_heuristic"),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude_heuristic"),
        ("openrouter/anthropic/claude-3.5-haiku", "claude_heuristic"),
        ("upstage/solar-pro2", "unknown"),
        ("qwen-turbo1", "unknown"),
        ("nano3", "unknown"),
        ("foo-gpt-4o", "unknown"),
        ("gpt-4all-lora", "unknown"),
        ("mistral/open-o1x", "unknown"),
        ("ollama/llama3", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_encoding_follows_from_the_models_base_name(model: str, encoding: str) -> None:
    assert encoding_for_model(model) == encoding


def test_only_a_models_own_tokenizer_counts_as_exact() -> None:
    assert TokenEstimator().is_exact("gpt-4")
    assert TokenEstimator(encoding="o200k_base").is_exact("openai/my-deployment")
    assert not TokenEstimator().is_exact("claude-sonnet-4-5")
    assert not TokenEstimator().is_exact("ollama/llama3")
    assert not TokenEstimator().is_exact()
    assert not TokenEstimator(heuristic_only=True).is_exact("gpt-4o")


def test_claude_counts_carry_a_margin_over_the_openai_count() -> None:
    text = SAMPLES["English"]
    assert TokenEstimator().estimate(text, "claude-sonnet-4-5") > 1.1 * TokenEstimator().estimate(text, "gpt-4o")


def test_an_encoding_given_decides_whatever_the_model_is_called() -> None:
    text = SAMPLES["Chinese"]
    given = TokenEstimator(encoding="cl100k_base").estimate(text, "gpt-4o")
    assert given == TokenEstimator().estimate(text, "gpt-4") != TokenEstimator().estimate(text, "gpt-4o")


@pytest.mark.parametrize("heuristic_only", [True, False])
@pytest.mark.parametrize(
    "text", ["<|endoftext|>", "<|endofprompt|> <|im_start|>", "\ud800", "a\udfffb", "\0", "\x00" * 50]
)
def test_no_text_is_too_strange_to_count(text: str, heuristic_only: bool) -> None:
    for model in ("gpt-4", "gpt-4o", "claude-opus-4-1", "other"):
        assert TokenEstimator(heuristic_only=heuristic_only).estimate(text, model) >= 1


def test_special_tokens_in_a_text_are_counted_as_text() -> None:
    assert TokenEstimator().estimate("<|endoftext|>", "gpt-4o") > 1


@settings(max_examples=sampled(150), deadline=None)
@given(
    st.text(st.characters(exclude_categories=())), st.sampled_from(["gpt-4", "gpt-4o", "claude-3", "x"]), st.booleans()
)
def test_every_string_has_a_count_and_only_the_empty_one_counts_zero(
    text: str, model: str, heuristic_only: bool
) -> None:
    count = TokenEstimator(heuristic_only=heuristic_only).estimate(text, model)
    assert count == 0 if text == "" else count >= 1


@settings(max_examples=sampled(150), deadline=None)
@given(st.text(st.sampled_from("ab \n\t漢😀"), max_size=300), st.integers(1, 40))
def test_pieces_are_the_text_and_never_longer_than_the_limit(text: str, limit: int) -> None:
    cut = list(split_text(text, limit))
    assert "".join(cut) == text
    assert all(len(piece) <= limit for piece in cut)


def test_cutting_a_long_text_into_pieces_adds_next_to_nothing() -> None:
    text = SAMPLES["English"] * 200
    whole = len(encodings.load_encoding("o200k_base").encode_ordinary(text))
    assert whole <= TokenEstimator().estimate(text, "gpt-4o") <= whole * 1.01


@pytest.mark.parametrize("run", ["a", " ", "\n", "ab", "!", "汉", "é", "A1b/", "\t ", "=", "x."])
@pytest.mark.parametrize("heuristic_only", [True, False])
def test_a_megabyte_of_one_thing_is_counted_in_pieces(run: str, heuristic_only: bool) -> None:
    text = run * (1_000_000 // len(run))
    assert TokenEstimator(heuristic_only=heuristic_only).estimate(text, "gpt-4o") > 1_000


def _in_a_child(code: str, **environment: str) -> str:
    """What `code` prints in a process of its own that cannot open a socket."""
    guard = """
        import socket
        def refuse(*args, **kwargs):
            raise AssertionError("a socket was opened")
        socket.socket.connect = refuse
        socket.getaddrinfo = refuse
    """
    env = {k: v for k, v in os.environ.items() if k not in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")} | environment
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(guard) + textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_tables_counts_are_estimated_offline(tmp_path: Path) -> None:
    code = """
        from mnesis import tokens
        from mnesis.tokens import encodings
        from mnesis.tokens.heuristic import heuristic_tokens
        looks = []
        def nowhere():
            looks.append(1)
            return iter(())
        encodings._table_directories = nowhere
        estimator = tokens.TokenEstimator()
        counts = {estimator.estimate("hello there " * n, "gpt-4o") for n in (5, 5, 5)}
        print(len(looks), estimator.is_exact("gpt-4o"), counts == {heuristic_tokens("hello there " * 5)})
    """
    assert _in_a_child(code) == "1 False True"


def test_the_tables_are_found_without_importing_their_packages() -> None:
    code = """
        import os, sys
        before = dict(os.environ)
        from mnesis.tokens.estimator import TokenEstimator
        assert "tiktoken" not in sys.modules
        print(TokenEstimator().estimate("hello world", "gpt-4o"), TokenEstimator().is_exact("gpt-4o"),
              "litellm" in sys.modules, "llama_index.core" in sys.modules, dict(os.environ) == before)
    """
    assert _in_a_child(code) == "2 True False False True"


def test_a_users_own_cache_is_used_and_a_damaged_file_in_it_left_alone(tmp_path: Path) -> None:
    source = next(iter(encodings.package_directories("litellm"))) / "litellm_core_utils" / "tokenizers"
    names = {hashlib.sha1(table.url.encode()).hexdigest(): name for name, table in encodings.TABLES.items()}
    for file_name, name in names.items():
        if name == "o200k_base":
            shutil.copy(source / file_name, tmp_path / file_name)
        else:
            (tmp_path / file_name).write_bytes(b"damaged")
    code = """
        from mnesis import tokens
        from mnesis.tokens import encodings
        encodings.package_directories = lambda package: []
        encodings.tempfile.gettempdir = lambda: "/nonexistent"
        print(tokens.TokenEstimator().is_exact("gpt-4o"), tokens.TokenEstimator().is_exact("gpt-4"))
    """
    assert _in_a_child(code, TIKTOKEN_CACHE_DIR=str(tmp_path)) == "True False"
    damaged = [file_name for file_name, name in names.items() if name == "cl100k_base"]
    assert (tmp_path / damaged[0]).read_bytes() == b"damaged"


def test_the_heuristic_counts_nothing_for_nothing() -> None:
    assert heuristic_tokens("") == 0
