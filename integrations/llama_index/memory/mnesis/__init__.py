"""mnesis as a memory for LlamaIndex chat engines and agents."""

try:
    import llama_index.core
except ImportError as error:
    raise ImportError('llama_index.memory.mnesis needs llama-index-core: pip install "mnesis[llama-index]"') from error

from llama_index.memory.mnesis.base import MnesisMemory

__all__ = ["MnesisMemory"]
