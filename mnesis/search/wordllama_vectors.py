"""Static embeddings from the files in the wheel of `wordllama`: a table of token vectors and a tokenizer. No download.

Its own loader looks for the tokenizer outside the package and downloads it, and importing the package configures
logging, so the two files are read directly. Their places and their format are private to wordllama;
tests/search/test_wordllama.py pins both.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

WORDLLAMA = "wordllama"
MODEL_NAME = "wordllama l2_supercat 256"
WEIGHTS_FILE = "weights/l2_supercat_256.safetensors"
TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
TENSOR = "embedding.weight"
_LENGTH_BYTES = 8
_loading = threading.Lock()


def embed_texts(texts: Sequence[str]) -> list[list[float]]:
    """Return the mean of the token vectors of each text. The first call loads 18 MB, in about 0.2 seconds."""
    import numpy as np

    with _loading:
        table, tokenizer = _load()
    vectors = []
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        ids = np.clip(np.asarray(encoding.ids, dtype=np.int64), 0, len(table) - 1)
        vectors.append(table[ids].astype(np.float32).mean(axis=0).tolist() if len(ids) else [0.0] * table.shape[1])
    return vectors


def package_directory() -> Path | None:
    """Return the directory of the installed package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(WORDLLAMA)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@cache
def _load() -> tuple[Any, Any]:
    from tokenizers import Tokenizer

    directory = package_directory()
    assert directory is not None, "checked when the embedding is resolved"  # noqa: S101  # an invariant, not input
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return read_tensor((directory / WEIGHTS_FILE).read_bytes()), tokenizer


def read_tensor(data: bytes) -> Any:
    """Return the table of a safetensors file (https://github.com/huggingface/safetensors#format) as a matrix of half floats."""
    import numpy as np

    header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
    tensor = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + header_bytes])[TENSOR]
    if tensor["dtype"] != "F16":
        raise ValueError(f"the weights of wordllama are {tensor['dtype']}, expected F16; install another version")
    start, end = (_LENGTH_BYTES + header_bytes + offset for offset in tensor["data_offsets"])
    return np.frombuffer(data[start:end], dtype="<f2").reshape(tensor["shape"])
