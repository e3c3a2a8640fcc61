"""Default sizes of pages and time limits of searches. They have their own module, because signatures need them at
import.
"""

LOG_PAGE_MESSAGES = 500
"""The number of messages of a log that are read at once."""
MAX_PAGE_CHARS = 20_000
MAX_PAGE_LINES = 2_000
"""The default size of a page of a stored file."""
GREP_TIMEOUT_SECONDS = 5.0
"""The time limit for matching a regular expression against a log or a stored file."""
