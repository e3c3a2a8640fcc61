"""Remedies for findings, each an existing command."""

from __future__ import annotations

SALVAGE = "copy all that is intact to a new database: mnesis salvage DB --to NEW"
SALVAGE_CONTEXT = "copy all that is intact to a new database, whose context shows the log: mnesis salvage DB --to NEW"
SALVAGE_EVENTS = "only followers of events are affected; copy the database without it: mnesis salvage DB --to NEW"
SALVAGE_SCHEMA = "unless it is yours, copy the database without it: mnesis salvage DB --to NEW"
SALVAGE_RUN = "copy the sessions without it: mnesis salvage DB --to NEW; then run it again under another id"
MIGRATE = "finish the update of the database: mnesis migrate"
FIND_BACKUP = "find a backup that has it: mnesis verify --head ID=HEAD --db BACKUP; then write it to a file: mnesis export ID --db BACKUP"
SEAL = "if you trust its present content, seal it with this key: mnesis seal --key-file FILE"
REINDEX = "rebuild the index: mnesis reindex"
UNFINISHED_IMPORT = "run mnesis import again, which replaces it, or delete it: mnesis purge ID --apply"
