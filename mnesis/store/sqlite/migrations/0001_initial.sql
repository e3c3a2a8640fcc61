-- The log, its summaries, and the items that represent them in the active context.
--
-- Texts that users wrote are kept as JSON in TEXT columns. A table's last column is its long one, so that sums over token
-- counts do not read it. Times are milliseconds since 1970 and order nothing; `seq` does.

PRAGMA application_id = 1835951475; -- "mnes"

CREATE TABLE sessions (
    pk INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    parent_id TEXT,
    created_at INTEGER NOT NULL,
    profile TEXT NOT NULL -- model, system_prompt, agent, title, metadata
) STRICT;

CREATE INDEX sessions_by_parent ON sessions (parent_id) WHERE parent_id IS NOT NULL;

-- One narrow row per session, the only one an append rewrites. `last_used` is in nanoseconds and only grows.
CREATE TABLE accounts (
    session_pk INTEGER PRIMARY KEY REFERENCES sessions (pk),
    last_used INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    turn_count INTEGER NOT NULL,
    system_tokens INTEGER NOT NULL,
    message_tokens INTEGER NOT NULL,
    tool_tokens INTEGER NOT NULL,
    summary_tokens INTEGER NOT NULL,
    context_tokens INTEGER NOT NULL,
    last_request_tokens INTEGER,
    calibration REAL NOT NULL,
    usage_input INTEGER NOT NULL,
    usage_output INTEGER NOT NULL,
    usage_cache_read INTEGER NOT NULL,
    usage_cache_write INTEGER NOT NULL,
    usage_total INTEGER NOT NULL,
    cost REAL NOT NULL
) STRICT;

CREATE TABLE messages (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    seq INTEGER NOT NULL CHECK (seq > 0),
    id TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    token_count INTEGER NOT NULL,
    tool_tokens INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32), -- sha256 of id, role, parts and meta
    meta TEXT,
    parts TEXT NOT NULL, -- JSON: a list of parts, or the text of a message that is only text
    UNIQUE (session_pk, seq),
    UNIQUE (session_pk, id)
) STRICT;

CREATE TABLE summaries (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    id TEXT NOT NULL,
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    token_count INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32), -- sha256 of id and body
    body TEXT NOT NULL,
    UNIQUE (session_pk, id)
) STRICT;

-- Which messages a leaf stands for.
CREATE TABLE summary_messages (
    summary_pk INTEGER NOT NULL REFERENCES summaries (pk),
    seq INTEGER NOT NULL,
    session_pk INTEGER NOT NULL,
    PRIMARY KEY (summary_pk, seq),
    FOREIGN KEY (session_pk, seq) REFERENCES messages (session_pk, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX summary_messages_by_message ON summary_messages (session_pk, seq);

-- Which summaries a condensed summary stands for.
CREATE TABLE summary_children (
    parent_pk INTEGER NOT NULL REFERENCES summaries (pk),
    position INTEGER NOT NULL,
    child_pk INTEGER NOT NULL REFERENCES summaries (pk) CHECK (child_pk <> parent_pk),
    PRIMARY KEY (parent_pk, position),
    UNIQUE (parent_pk, child_pk)
) STRICT, WITHOUT ROWID;

CREATE INDEX summary_children_by_child ON summary_children (child_pk);

-- What the active context shows instead of messages; without a summary the span is hidden.
CREATE TABLE context_covers (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    summary_pk INTEGER REFERENCES summaries (pk),
    PRIMARY KEY (session_pk, first_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX context_covers_by_summary ON context_covers (summary_pk);

-- Every span that was ever hidden; tells a gap under a summary that was wanted from one that is damage.
CREATE TABLE hidden_spans (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
) STRICT;

CREATE INDEX hidden_spans_by_session ON hidden_spans (session_pk);

-- Tool outputs that are shown as markers.
CREATE TABLE prunes (
    session_pk INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    part_index INTEGER NOT NULL,
    tokens_saved INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq, part_index),
    FOREIGN KEY (session_pk, seq) REFERENCES messages (session_pk, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    turn_index INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    role TEXT NOT NULL,
    system_tokens INTEGER NOT NULL,
    summary_tokens INTEGER NOT NULL,
    message_tokens INTEGER NOT NULL,
    tool_tokens INTEGER NOT NULL,
    context_tokens INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_pk, turn_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE compactions (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    result TEXT NOT NULL
) STRICT;

CREATE INDEX compactions_by_session ON compactions (session_pk);

CREATE TABLE interruptions (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    body TEXT NOT NULL
) STRICT;

CREATE INDEX interruptions_by_session ON interruptions (session_pk);

-- A session named here is being erased by the transaction that named it; nothing else may delete.
CREATE TABLE purging (session_pk INTEGER PRIMARY KEY) STRICT;

-- The log refuses change. REPLACE deletes without asking where recursive_triggers is off: hence the guards on INSERT.

CREATE TRIGGER messages_refuse_update BEFORE UPDATE ON messages
BEGIN
    SELECT RAISE(ABORT, 'messages are never changed');
END;

CREATE TRIGGER messages_refuse_delete BEFORE DELETE ON messages
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'messages are never deleted; purge the whole session');
END;

CREATE TRIGGER messages_refuse_replace BEFORE INSERT ON messages
WHEN EXISTS (SELECT 1 FROM messages WHERE pk = NEW.pk)
    OR EXISTS (SELECT 1 FROM messages WHERE session_pk = NEW.session_pk AND seq = NEW.seq)
    OR EXISTS (SELECT 1 FROM messages WHERE session_pk = NEW.session_pk AND id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'messages are never replaced');
END;

CREATE TRIGGER summaries_refuse_update BEFORE UPDATE ON summaries
BEGIN
    SELECT RAISE(ABORT, 'summaries are never changed');
END;

CREATE TRIGGER summaries_refuse_delete BEFORE DELETE ON summaries
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'summaries are never deleted; purge the whole session');
END;

CREATE TRIGGER summaries_refuse_replace BEFORE INSERT ON summaries
WHEN EXISTS (SELECT 1 FROM summaries WHERE pk = NEW.pk)
    OR EXISTS (SELECT 1 FROM summaries WHERE session_pk = NEW.session_pk AND id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'summaries are never replaced');
END;

CREATE TRIGGER summary_messages_refuse_update BEFORE UPDATE ON summary_messages
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never changed');
END;

CREATE TRIGGER summary_messages_refuse_delete BEFORE DELETE ON summary_messages
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never deleted; purge the whole session');
END;

CREATE TRIGGER summary_messages_refuse_replace BEFORE INSERT ON summary_messages
WHEN EXISTS (SELECT 1 FROM summary_messages WHERE summary_pk = NEW.summary_pk AND seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never replaced');
END;

CREATE TRIGGER summary_children_refuse_update BEFORE UPDATE ON summary_children
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never changed');
END;

CREATE TRIGGER summary_children_refuse_delete BEFORE DELETE ON summary_children
WHEN NOT EXISTS (
    SELECT 1 FROM purging JOIN summaries ON summaries.session_pk = purging.session_pk WHERE summaries.pk = OLD.parent_pk
)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never deleted; purge the whole session');
END;

CREATE TRIGGER summary_children_refuse_replace BEFORE INSERT ON summary_children
WHEN EXISTS (SELECT 1 FROM summary_children WHERE parent_pk = NEW.parent_pk AND position = NEW.position)
    OR EXISTS (SELECT 1 FROM summary_children WHERE parent_pk = NEW.parent_pk AND child_pk = NEW.child_pk)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never replaced');
END;

CREATE TRIGGER turns_refuse_update BEFORE UPDATE ON turns
BEGIN
    SELECT RAISE(ABORT, 'turns are never changed');
END;

CREATE TRIGGER turns_refuse_delete BEFORE DELETE ON turns
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'turns are never deleted; purge the whole session');
END;

CREATE TRIGGER turns_refuse_replace BEFORE INSERT ON turns
WHEN EXISTS (SELECT 1 FROM turns WHERE session_pk = NEW.session_pk AND turn_index = NEW.turn_index)
BEGIN
    SELECT RAISE(ABORT, 'turns are never replaced');
END;

CREATE TRIGGER compactions_refuse_update BEFORE UPDATE ON compactions
BEGIN
    SELECT RAISE(ABORT, 'compactions are never changed');
END;

CREATE TRIGGER compactions_refuse_delete BEFORE DELETE ON compactions
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'compactions are never deleted; purge the whole session');
END;

CREATE TRIGGER compactions_refuse_replace BEFORE INSERT ON compactions
WHEN EXISTS (SELECT 1 FROM compactions WHERE pk = NEW.pk)
BEGIN
    SELECT RAISE(ABORT, 'compactions are never replaced');
END;

CREATE TRIGGER sessions_refuse_delete BEFORE DELETE ON sessions
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.pk)
BEGIN
    SELECT RAISE(ABORT, 'sessions are only erased by a purge');
END;
