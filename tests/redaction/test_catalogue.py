"""The catalogue of secrets: what is replaced, what stays, and where it applies without being asked."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mnesis import CompactionConfig, MnesisConfig, SessionConfig
from mnesis.errors import ConfigurationError, LLMServerError
from mnesis.llm.base import LLMRequest
from mnesis.operators.model_calls import check_llm_options
from mnesis.redaction import Redaction, get_logger, redact, redact_data

# Shapes as the services document them; values are made up.
SECRETS = {
    "url-password": [
        ("https://bob:{}@proxy.example/v1", "hunter2secret"),
        ("postgres://u:{}@db/x", "pa55w0rdlong"),
        ("mongodb+srv://user:{}@host/x", "p@ss@word"),
        ("redis://:{}@h:6379/0", "secretpw"),
        ("git clone https://{}@github.com/a/b", "x0123456789abcdefghijk"),
    ],
    "private-key": [
        ("{}", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"),
        ("{}", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"),
        ("{}", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQdGBF\n-----END PGP PRIVATE KEY BLOCK-----"),
        ("{}", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA cut off"),
        ('{{"key": "{}"}}', "-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----"),
    ],
    "jwt": [("{}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop")],
    "aws-key": [("credential {} is unknown", "AKIAIOSFODNN7EXAMPLE"), ("{}", "ASIAY34FZKBOKMUTVV7A")],
    "google-key": [("{} was refused", "AIzaSyA1234567890abcdefghijk"), ("{}", "GOCSPX-abcdefghijklmnopqrstuvwx")],
    "google-token": [("{}", "ya29.a0AfH6SMBabcdefghijk"), ("{}", "1//0gabcdefghijklmnopqrstuvwx")],
    "github-token": [
        ("{}", "github_pat_11ABCDEFG0123456789abcdef"),
        ("T={}", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    ],
    "gitlab-token": [("{}", "glpat-abcdef0123456789abcd")],
    "slack-token": [
        ("{}", "xoxb-123456789012-abcdefghijkl"),
        ("https://hooks.slack.com/services/{}", "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"),
    ],
    "npm-token": [("{}", "npm_abcdefghijklmnopqrstuvwxyz0123456789")],
    "pypi-token": [("{}", "pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAw")],
    "sendgrid-key": [("{}", "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")],
    "digitalocean-token": [("{}", "dop_v1_" + "0a" * 32)],
    "vault-token": [("{}", "hvs.CAESIabcdefghijklmnopqrst")],
    "telegram-token": [("{}", "123456789:AAabcdefghijklmnopqrstuvwxyz0123456")],
    "azure-key": [
        ("DefaultEndpointsProtocol=https;AccountKey={};x", "abcdefghijklmnop=="),
        ("u?sv=1&sig={}&x", "a" * 43),
    ],
    "authorization": [
        ("header Authorization: Bearer {}", "eyJhbGciOi.J9-x_y~z="),
        ("Authorization: Basic {}", "dXNlcjpwYXNz"),
        ('"Authorization": "Bearer {}"', "abcdefgh12345678"),
    ],
    "cookie": [("Cookie: {}", "session=abcdef0123456789; a=b"), ("Set-Cookie: {}", "sid=31d4d96e407aad42; Path=/")],
    "password": [
        ("password: {}", "short1"),
        ("passwd={}", "abcdefgh1"),
        ("pwd={}", "abcdefgh1"),
        ("DB_PASSWORD={}", "hunter2"),
        ("Server=x;Password={};User=y", "S3cr3t"),
        ('{{\\"password\\": \\"{}\\"}}', "hunter2"),
        ("'passphrase' => '{}'", "correct-horse"),
    ],
    "api-key": [
        ("Incorrect API key provided: {}.", "sk-proj-abc123DEF456"),
        ("Invalid API Key provided: {}", "0123456789abcdef"),
        ("GET https://x.test/v1?key={}&alt=sse", "abcdefgh12345678"),
        ('{{"api_key": "{}", "model": "m"}}', "abcdefgh12345678"),
        ("api-key={}&x=1", "abcdefgh12345678"),
        ("OPENAI_API_KEY={}", "abcd1234efgh"),
        ("aws_secret_access_key = {}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("{}", "sk-ant-api03-abc_def"),
        ("{} and", "gsk_abcdefghijkl"),
        ("{} and", "xai-abcdefghijkl"),
        ("{}", "hf_abcdefghijklmnopqrst"),
        ("{}", "sk_live_abcdefgh12345678"),
    ],
    "secret": [
        ("token = '{}'", "abcdefgh1234"),
        ("clientSecret: '{}'", "abcdefgh123"),
        ('"credentials": "{}"', "abcd1234"),
    ],
}
CASES = [(kind, *case) for kind, cases in SECRETS.items() for case in cases]


@pytest.mark.parametrize(("kind", "text", "secret"), CASES)
def test_a_secret_is_replaced_with_its_kind(kind: str, text: str, secret: str) -> None:
    redacted = redact(text.format(secret))
    assert redacted == text.format(f"[redacted: {kind}]")
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens: yours has 9000 tokens",
        "set OPENAI_API_KEY, or pass api_key in llm_options",
        "basic information about a bearer of bad news, a monkey=bars, a risk-averse task-list",
        "sk_buff_head and pk_column_name; import sk-learn",
        "password = getpass.getpass(); password = os.environ['PW']; password: ${DB_PASSWORD}; api_key=None",
        "max_tokens: 12345678, token: str",
        "see https://example.com:8080/a@b, http://localhost:8000/x, user@host.com",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
        "the secret: nothing at all; cookie: chocolate",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(), st.text())
def test_a_key_never_survives_whatever_stands_around_it(before: str, after: str) -> None:
    assert "hunter2hunter2" not in redact(f"{before} sk-hunter2hunter2 {after}")


@given(st.lists(st.sampled_from([text.format(secret) for _, text, secret in CASES] + list("\n ;\"'=:@/")), max_size=6))
def test_redacting_twice_changes_nothing_more(pieces: list[str]) -> None:
    redacted = redact(" ".join(pieces))
    assert redact(redacted) == redacted


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "piece",
    ["a", "eyJ", "://", "password=", "-----BEGIN PRIVATE KEY-----", "a.", "a_", "password ", "sk-", "x@", "://a:"],
)
def test_no_text_makes_a_pattern_hang(piece: str) -> None:
    """Half a megabyte takes a second. Where a repetition could match in two ways, it would take hours."""
    redacted = redact((piece * 500_000)[:500_000])
    assert redact(redacted) == redacted


def test_data_is_redacted_by_names_too() -> None:
    data = {"api_key": "plain", "nested": [{"Authorization": "x", "accessToken": "y", "max_tokens": 3, "text": "fine"}]}
    marked = "[redacted: secret]"
    expected = {
        "api_key": marked,
        "nested": [{"Authorization": marked, "accessToken": marked, "max_tokens": 3, "text": "fine"}],
    }
    assert redact_data(data) == redact_data(expected) == expected


KEY = "sk-ant-SECRET-123456"


@pytest.mark.parametrize(
    "create",
    [
        lambda: MnesisConfig(api_key=KEY),  # type: ignore[call-arg]
        lambda: MnesisConfig(api_key="SECRET"),  # type: ignore[call-arg]
        lambda: SessionConfig(llm_options=KEY),  # type: ignore[arg-type]
        lambda: SessionConfig(llm_options="a plain SECRET"),  # type: ignore[arg-type]
        lambda: MnesisConfig(session={"llm_options": KEY}),  # type: ignore[arg-type]
        lambda: MnesisConfig(session={"llm_options": {"api_key": "SECRET"}, "unknown": 1}),  # type: ignore[arg-type]
        lambda: MnesisConfig.model_validate({"session": {"llm_options": KEY}}),
        lambda: MnesisConfig.model_validate_json(f'{{"session": {{"llm_options": "{KEY}"}}}}'),
        lambda: CompactionConfig(compaction_options=KEY),  # type: ignore[arg-type]
        lambda: CompactionConfig(compaction_model=["https://u:SECRET@host"]),  # type: ignore[arg-type]
    ],
)
def test_no_configuration_error_shows_a_key(create: Callable[[], Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        create()
    for shown in (str(caught.value), repr(caught.value), str(caught.value.errors()), caught.value.json()):
        assert "SECRET" not in shown
    assert caught.value.__cause__ is None


def test_errors_keep_their_type_place_and_value() -> None:
    with pytest.raises(ValidationError, match="less than or equal to") as caught:
        MnesisConfig(compaction={"soft_threshold_fraction": 7})  # type: ignore[arg-type]
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"], error["input"]) == (
        "less_than_equal",
        ("compaction", "soft_threshold_fraction"),
        7,
    )


def test_errors_of_mnesis_redact_their_messages() -> None:
    assert "SECRET" not in str(ConfigurationError(f"llm={KEY!r} is not a model"))
    assert "SECRET" not in str(LLMServerError(f"refused {KEY}"))
    with pytest.raises(ConfigurationError) as caught:
        check_llm_options("SECRET")
    assert "SECRET" not in str(caught.value)


def test_no_repr_shows_a_key() -> None:
    options = {"api_key": "SECRET", "extra_headers": {"Authorization": "SECRET"}, "base": KEY, "temperature": 0.5}
    config = MnesisConfig(
        session=SessionConfig(llm_options=options), compaction=CompactionConfig(compaction_options=options)
    )
    for shown in (repr(config), str(config), repr(config.session), repr(LLMRequest("m", [], options=options))):
        assert "SECRET" not in shown
    assert "'temperature': 0.5" in repr(config)
    assert config.session.llm_options == options
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == MnesisConfig(**config.model_dump()) == config


def test_log_records_contain_no_secrets(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_LOG_CONTENT", "1")
    try:
        raise RuntimeError(f"refused {KEY}")
    except RuntimeError as error:
        get_logger("mnesis.llm.refusals").warning("%s of %s", error, KEY, exc_info=True)
    assert "SECRET" not in caplog.text
    assert "RuntimeError: refused [redacted: api-key]" in caplog.text


def test_every_module_logs_without_secrets() -> None:
    root = Path(__file__).parents[2]
    sources = [path for place in ("mnesis", "integrations") for path in (root / place).rglob("*.py")]
    assert [path for path in sources if "logging.getLogger(__name__)" in path.read_text("utf-8")] == []


def test_settings_of_redact() -> None:
    text = f"{KEY} and badge 7-42"
    assert Redaction.from_setting(None) is None
    assert Redaction.from_setting(False) is None
    cases: dict[str, tuple[Any, str]] = {
        "catalogue": (True, "[redacted: api-key] and badge 7-42"),
        "patterns": ([r"\d-\d\d"], "[redacted: api-key] and badge [redacted: custom]"),
        "kinds": ({"badge": r"badge (?P<value>\S+)"}, "[redacted: api-key] and badge [redacted: badge]"),
        "callable": (str.upper, f"{KEY} and badge 7-42".upper()),
    }
    for setting, expected in cases.values():
        redaction = Redaction.from_setting(setting)
        assert redaction is not None
        assert redaction.text(text) == expected
        named = redaction.data({"password": "x", "id": "x"}, kept={"id"})
        assert named == {"password": "X" if setting is str.upper else "[redacted: secret]", "id": "x"}
    for wrong in ("pattern", 3, ["("], [3]):
        with pytest.raises(ValueError, match="redact"):
            Redaction.from_setting(wrong)  # type: ignore[arg-type]
