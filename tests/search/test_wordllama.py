"""What mnesis reads from the wheel of wordllama: two files whose place and content are private to it."""

from __future__ import annotations

import json
import subprocess
import sys

from mnesis.search.wordllama_vectors import (
    TENSOR,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    embed_texts,
    package_directory,
)


def test_the_wheel_contains_the_weights_and_the_tokenizer() -> None:
    directory = package_directory()
    assert directory is not None
    with (directory / WEIGHTS_FILE).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header == {TENSOR: {"dtype": "F16", "shape": [32_000, 256], "data_offsets": [0, 16_384_000]}}
    tokenizer = json.loads((directory / TOKENIZER_FILE).read_text("utf-8"))
    assert (tokenizer["model"]["type"], len(tokenizer["model"]["vocab"])) == ("BPE", 32_000)


def test_related_texts_have_similar_vectors() -> None:
    doctor, physician, garden, empty = embed_texts(["a doctor", "the physician", "tomatoes in the yard", ""])

    def similarity(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5

    assert len(doctor) == 256
    assert similarity(doctor, physician) > similarity(doctor, garden) + 0.2
    assert empty == [0.0] * 256


def test_embedding_does_not_import_the_package() -> None:
    # Its import configures the logging of the process (wordllama/inference.py, `logging.basicConfig`).
    code = (
        "import sys, logging; from mnesis.search.wordllama_vectors import embed_texts; embed_texts(['a']);"
        "print('wordllama' in sys.modules, 'torch' in sys.modules, logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "[]"]
