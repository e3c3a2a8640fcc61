"""LangChain, chat histories: RunnableWithMessageHistory with a history that always fits the window and loses nothing.

MNESIS_MOCK_LLM=1 uv run --extra langchain python examples/08_langchain_history.py
ANTHROPIC_API_KEY=… uv run --extra langchain-agents --with langchain-anthropic python examples/08_langchain_history.py [model]
"""

import tempfile
import warnings
from pathlib import Path

from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.history import RunnableWithMessageHistory
from mock_models import langchain_model

from langchain_mnesis import MnesisChatMessageHistory, history_factory
from mnesis import Engine, concurrency

# Newer releases of langchain-core recommend agents instead; chains with a history still work.
warnings.filterwarnings("ignore", message=".*RunnableWithMessageHistory.*")


def main() -> None:
    model = langchain_model(["Hello Ada, nice to meet you.", "You are Ada, and you live in London."])
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You are brief."), MessagesPlaceholder("history"), ("human", "{question}")]
    )
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory) / "chats.db")
        chat = RunnableWithMessageHistory(
            prompt | model,
            get_session_history=history_factory(engine=engine),  # or mnesis_history, for the default database
            input_messages_key="question",
            history_messages_key="history",
        )
        ada: RunnableConfig = {"configurable": {"session_id": "ada"}}
        for question in ("Hello, I am Ada, from London.", "Who am I, and where do I live?"):
            print(f"Human: {question}\nAI:    {chat.invoke({'question': question}, ada).content}\n")

        history = MnesisChatMessageHistory("ada", engine=engine)
        print(f"{len(history.messages)} messages in the history; another process that uses 'ada' continues it.")
        concurrency.run(engine.close())


if __name__ == "__main__":
    main()
