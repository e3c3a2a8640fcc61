"""Keys of encrypted databases: what can be one, and that none is ever shown."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr, ValidationError

from mnesis import Engine, MnesisConfig, MnesisSession
from mnesis.config import StoreConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, EncryptionKeyError
from tests.support.encrypted import KEY, PASSPHRASE, encrypted

SECRETS = [KEY, KEY.hex(), PASSPHRASE]


def shows(text: str, secret: str | bytes) -> bool:
    forms = [secret, secret.hex()] if isinstance(secret, bytes) else [secret, secret.replace("'", "''")]
    return any(str(form) in text or repr(form)[1:-1] in text for form in forms)


@pytest.mark.parametrize("secret", SECRETS)
def test_no_form_of_a_key_is_shown(secret: str | bytes) -> None:
    config = MnesisConfig(store=encrypted(secret))
    key = config.store.read_encryption_key()
    texts = [repr(config), str(config), repr(config.store), repr(key), str(key), f"{key}", config.model_dump_json()]
    assert not any(shows(text, secret) for text in texts)


@pytest.mark.parametrize("secret", ["short", b"only sixteen byt", "with \0 inside it", "lone \ud800 surrogate", 12, ""])
def test_what_cannot_be_a_key_is_refused_without_showing_it(secret: object) -> None:
    with pytest.raises(ValidationError) as raised:
        StoreConfig(encryption_key=secret)  # type: ignore[arg-type]
    if isinstance(secret, str | bytes) and secret:
        assert not shows(str(raised.value), secret)
    with pytest.raises(ConfigurationError):
        EncryptionKey(secret)  # type: ignore[arg-type]


def test_hexadecimal_digits_are_the_bytes_they_spell() -> None:
    assert EncryptionKey(KEY) == EncryptionKey(KEY.hex()) == EncryptionKey(KEY.hex().upper())
    assert hash(EncryptionKey(KEY)) == hash(EncryptionKey(KEY.hex()))
    assert EncryptionKey(KEY) != EncryptionKey(PASSPHRASE)
    assert EncryptionKey(KEY) != KEY


@pytest.mark.parametrize(
    "wrap", [lambda key: key, SecretBytes, lambda key: SecretStr(key.hex()), lambda key: lambda: key]
)
def test_a_key_may_be_given_in_any_form(wrap: object) -> None:
    config = encrypted(wrap(KEY))  # type: ignore[operator]
    assert config.read_encryption_key() == EncryptionKey(KEY)
    assert copy.deepcopy(config).read_encryption_key() == EncryptionKey(KEY)


def test_settings_with_a_key_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(encrypted())).read_encryption_key() == EncryptionKey(KEY)


async def test_a_callable_is_asked_when_the_database_is_opened(tmp_path: Path) -> None:
    calls = []

    def fetch() -> bytes:
        calls.append(1)
        return KEY

    engine = Engine(tmp_path / "s.db", config=MnesisConfig(store=encrypted(fetch)))
    assert calls == []
    async with engine:
        assert calls == [1]
        assert (await engine.sessions()).sessions == ()
    async with Engine(tmp_path / "s.db", config=MnesisConfig(store=encrypted(KEY))):
        pass


@pytest.mark.parametrize("result", [ValueError("boom 12345"), "short", None])
async def test_a_callable_that_gives_no_key_is_reported(tmp_path: Path, result: object) -> None:
    def fetch() -> bytes:
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[return-value]

    with pytest.raises(EncryptionKeyError, match="the callable for encryption_key") as raised:
        async with Engine(tmp_path / "s.db", config=MnesisConfig(store=encrypted(fetch))):
            pass
    assert "12345" not in str(raised.value)
    assert not (tmp_path / "s.db").exists()


async def test_no_key_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for secret in SECRETS:
        path = tmp_path / f"{SECRETS.index(secret)}.db"
        config = MnesisConfig(store=encrypted(secret))
        async with MnesisSession.open(model=None, session_id="s", db_path=path, config=config) as session:
            await session.record("question", "answer")
            await session.search("question")
        with pytest.raises(EncryptionKeyError) as raised:
            async with Engine(path, config=MnesisConfig(store=encrypted("another passphrase"))):
                pass
        assert not shows(caplog.text + str(raised.value) + repr(raised.value), secret)
        assert "another passphrase" not in caplog.text + str(raised.value)
