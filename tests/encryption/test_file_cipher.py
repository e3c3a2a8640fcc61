"""The encryption of stored files: every byte comes back from any position, and no change goes unseen."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.files.cipher import (
    CHUNK_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    FileCipher,
    InvalidContentError,
    content_size,
)
from tests.support.samples import sampled

CIPHER = FileCipher(b"k" * 32)
SIZES = st.one_of(
    st.integers(0, 300),
    st.builds(lambda chunks, extra: max(chunks * CHUNK_BYTES + extra, 0), st.integers(0, 3), st.integers(-2, 2)),
)


def content_of(size: int) -> bytes:
    return bytes(position * 7 % 251 for position in range(size))


@settings(max_examples=sampled(60), deadline=None)
@given(SIZES, st.integers(1, 200_000), st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 90_000)), max_size=4))
def test_any_part_of_any_content_comes_back(size: int, piece: int, parts: list[tuple[int, int]]) -> None:
    content = content_of(size)
    sealed = b"".join(CIPHER.encrypt(content[start : start + piece] for start in range(0, size, piece)))
    assert content_size(len(sealed)) == size
    file = CIPHER.open(io.BytesIO(sealed), len(sealed))
    assert file.read() == content
    for offset, length in parts:
        file.seek(offset)
        assert file.read(length) == content[offset : offset + length]
        assert file.tell() == max(offset, min(offset + length, size))
    assert file.seek(0, io.SEEK_END) == size


@settings(max_examples=sampled(60), deadline=None)
@given(st.integers(0, 3 * CHUNK_BYTES), st.data())
def test_no_changed_byte_is_read(size: int, data: st.DataObject) -> None:
    sealed = bytearray(CIPHER.seal(content_of(size)))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidContentError):
        CIPHER.unseal(bytes(sealed))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_content_that_was_cut_or_extended_is_refused_when_it_is_opened(size: int) -> None:
    sealed = CIPHER.seal(content_of(size))
    step = CHUNK_BYTES + TAG_BYTES
    cut = [sealed[:end] for end in {0, 10, HEADER_BYTES, *range(HEADER_BYTES, len(sealed), step), len(sealed) - 1}]
    for changed in [*cut, sealed + b"\0", sealed + sealed[-step:]]:
        with pytest.raises(InvalidContentError):
            CIPHER.open(io.BytesIO(changed), len(changed))


def test_chunks_cannot_change_places_or_files() -> None:
    sealed = CIPHER.seal(bytes(3 * CHUNK_BYTES))
    other = CIPHER.seal(bytes(3 * CHUNK_BYTES))
    step = CHUNK_BYTES + TAG_BYTES
    first, second = sealed[HEADER_BYTES : HEADER_BYTES + step], sealed[HEADER_BYTES + step : HEADER_BYTES + 2 * step]
    swapped = sealed[:HEADER_BYTES] + second + first + sealed[HEADER_BYTES + 2 * step :]
    mixed = sealed[: HEADER_BYTES + step] + other[HEADER_BYTES + step :]
    for changed in (swapped, mixed):
        with pytest.raises(InvalidContentError):
            CIPHER.unseal(changed)


def test_equal_content_is_encrypted_differently_and_named_equally() -> None:
    assert CIPHER.seal(b"content") != CIPHER.seal(b"content")
    assert CIPHER.name("an id") == FileCipher(b"k" * 32).name("an id")
    assert CIPHER.name("an id") != FileCipher(b"l" * 32).name("an id")
    with pytest.raises(InvalidContentError):
        FileCipher(b"l" * 32).unseal(CIPHER.seal(b"content"))
    assert repr(CIPHER) == "FileCipher()"
