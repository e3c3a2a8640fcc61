"""Default sizes of pages and time limits of searches. They are apart because signatures need them when their module is imported."""

LOG_PAGE_MESSAGES = 500
"""How many messages of a log are read at once."""
MAX_PAGE_CHARS = 20_000
MAX_PAGE_LINES = 2_000
"""Of a page of a stored file."""
GREP_TIMEOUT_SECONDS = 5.0
"""How long a regular expression may be matched against a log or a stored file."""
