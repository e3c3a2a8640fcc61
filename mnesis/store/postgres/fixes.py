"""Remedies for findings of the integrity check of a PostgreSQL database."""

RESTORE = "restore the database from a backup; messages not listed here are intact"
REBUILD = "export the session, purge it and import it again: the accounts are then recounted from the log"
RESTORE_RUN = "restore the database from a backup, or purge the run and run it again"
IGNORE_EVENTS = "only followers of events are affected; copy the database without it: mnesis migrate --to PATH|URL"
SEAL = "if you trust its present content, seal it with this key: mnesis seal --key-file FILE"
UNFINISHED_IMPORT = "import the same export again, which completes it, or purge the session with `mnesis purge`"
