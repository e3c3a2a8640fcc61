"""LlamaIndex, chat engines: MnesisMemory in place of ChatMemoryBuffer.

MNESIS_MOCK_LLM=1 uv run --extra llama-index python examples/10_llamaindex_chat_engine.py
OPENAI_API_KEY=… uv run --extra llama-index --with llama-index-llms-openai python examples/10_llamaindex_chat_engine.py [model]
"""

import tempfile
from pathlib import Path

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine.types import ChatMode
from llama_index.memory.mnesis import MnesisMemory
from mock_models import llamaindex_model

TIMETABLE = ["The night train to Lisbon leaves at 21:10.", "Dogs travel free on weekdays."]
ANSWERS = ["It leaves at 21:10.", "Yes: on weekdays dogs travel free.", "You asked about the night train to Lisbon."]


def main() -> None:
    model = llamaindex_model(ANSWERS)
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in TIMETABLE],
        embed_model=MockEmbedding(embed_dim=8),  # put your embedding model here
    )
    with tempfile.TemporaryDirectory() as directory:
        database = str(Path(directory) / "chats.db")
        memory = MnesisMemory.from_defaults(session_id="ada", db_path=database, token_limit=3_000)
        chat = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=model, memory=memory)
        for question in ("When does the night train leave?", "And may my dog come along?"):
            print(f"You:  {question}\nChat: {chat.chat(question)}\n")
        memory.close()

        # Another process would do the same: use the same session_id to continue.
        memory = MnesisMemory.from_defaults(session_id="ada", db_path=database, token_limit=3_000)
        chat = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=model, memory=memory)
        question = "What did I ask first?"
        print(f"You:  {question}\nChat: {chat.chat(question)}\n")
        print(f"{len(memory.get_all())} messages in the history")
        memory.close()


if __name__ == "__main__":
    main()
