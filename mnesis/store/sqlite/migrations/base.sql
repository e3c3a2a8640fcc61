-- What a new database has: all that its migrations would have made.
-- Generated from them by `python docs/generate.py`; do not edit.

PRAGMA application_id = 1835951475;

PRAGMA user_version = 13;

CREATE TABLE sessions (
    pk INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    parent_id TEXT,
    created_at INTEGER NOT NULL,
    profile TEXT NOT NULL -- model, system_prompt, agent, title, metadata
, hash BLOB) STRICT;

CREATE INDEX sessions_by_parent ON sessions (parent_id) WHERE parent_id IS NOT NULL;

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
, fold_count INTEGER NOT NULL DEFAULT 0, usage_reasoning INTEGER NOT NULL DEFAULT 0, last_request TEXT, message_pks INTEGER NOT NULL DEFAULT 0, change_pks INTEGER NOT NULL DEFAULT 0, log_head BLOB, turn_head BLOB, record_head BLOB, hash BLOB, seal BLOB) STRICT;

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

CREATE TABLE summary_messages (
    summary_pk INTEGER NOT NULL REFERENCES summaries (pk),
    seq INTEGER NOT NULL,
    session_pk INTEGER NOT NULL,
    PRIMARY KEY (summary_pk, seq),
    FOREIGN KEY (session_pk, seq) REFERENCES messages (session_pk, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX summary_messages_by_message ON summary_messages (session_pk, seq);

CREATE TABLE summary_children (
    parent_pk INTEGER NOT NULL REFERENCES summaries (pk),
    position INTEGER NOT NULL,
    child_pk INTEGER NOT NULL REFERENCES summaries (pk) CHECK (child_pk <> parent_pk),
    PRIMARY KEY (parent_pk, position),
    UNIQUE (parent_pk, child_pk)
) STRICT, WITHOUT ROWID;

CREATE INDEX summary_children_by_child ON summary_children (child_pk);

CREATE TABLE context_covers (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    summary_pk INTEGER REFERENCES summaries (pk),
    PRIMARY KEY (session_pk, first_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX context_covers_by_summary ON context_covers (summary_pk);

CREATE TABLE hidden_spans (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
) STRICT;

CREATE INDEX hidden_spans_by_session ON hidden_spans (session_pk);

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

CREATE TABLE purging (session_pk INTEGER PRIMARY KEY) STRICT;

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

CREATE VIRTUAL TABLE search_words USING fts5 (
    text, content = '', columnsize = 0, detail = none, tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE VIRTUAL TABLE search_trigrams USING fts5 (
    text, content = '', columnsize = 0, detail = none, tokenize = 'trigram'
);

CREATE TABLE search_rows (
    key INTEGER PRIMARY KEY,
    words INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    role TEXT NOT NULL,
    speaker TEXT NOT NULL,
    tools TEXT NOT NULL
, crc INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE search_speakers (
    session_pk INTEGER NOT NULL,
    speaker TEXT NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (session_pk, speaker)
) STRICT, WITHOUT ROWID;

CREATE TABLE search_state (
    session_pk INTEGER PRIMARY KEY,
    rules INTEGER NOT NULL,
    words_seq INTEGER NOT NULL,
    trigrams_seq INTEGER NOT NULL
, crc INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE runs (
    pk INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    total INTEGER,
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    running INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    attempts INTEGER NOT NULL DEFAULT 0,
    usage_input INTEGER NOT NULL DEFAULT 0,
    usage_output INTEGER NOT NULL DEFAULT 0,
    usage_cache_read INTEGER NOT NULL DEFAULT 0,
    usage_cache_write INTEGER NOT NULL DEFAULT 0,
    usage_total INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0
, change_pks INTEGER NOT NULL DEFAULT 0, input_head BLOB, hash BLOB, seal BLOB) STRICT;

CREATE TABLE run_inputs (
    run_pk INTEGER NOT NULL REFERENCES runs (pk),
    item_index INTEGER NOT NULL CHECK (item_index >= 0),
    input TEXT NOT NULL, hash BLOB,
    PRIMARY KEY (run_pk, item_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_items (
    run_pk INTEGER NOT NULL REFERENCES runs (pk),
    item_index INTEGER NOT NULL CHECK (item_index >= 0),
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
    claims INTEGER NOT NULL DEFAULT 0 CHECK (claims >= 0),
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease_until INTEGER,
    outcome TEXT, hash BLOB, seal BLOB,
    PRIMARY KEY (run_pk, item_index),
    CHECK ((state = 'running') = (worker IS NOT NULL) AND (state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX run_items_by_state ON run_items (run_pk, state, item_index);

CREATE INDEX run_items_by_lease ON run_items (run_pk, lease_until) WHERE state = 'running';

CREATE TABLE purging_runs (run_pk INTEGER PRIMARY KEY) STRICT;

CREATE TRIGGER run_inputs_refuse_delete BEFORE DELETE ON run_inputs
WHEN NOT EXISTS (SELECT 1 FROM purging_runs WHERE run_pk = OLD.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'inputs of a run are never deleted; purge the whole run');
END;

CREATE TRIGGER run_inputs_refuse_replace BEFORE INSERT ON run_inputs
WHEN EXISTS (SELECT 1 FROM run_inputs WHERE run_pk = NEW.run_pk AND item_index = NEW.item_index)
BEGIN
    SELECT RAISE(ABORT, 'inputs of a run are never replaced');
END;

CREATE TRIGGER run_items_refuse_delete BEFORE DELETE ON run_items
WHEN NOT EXISTS (SELECT 1 FROM purging_runs WHERE run_pk = OLD.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'items of a run are never deleted; purge the whole run');
END;

CREATE TRIGGER run_items_refuse_replace BEFORE INSERT ON run_items
WHEN EXISTS (SELECT 1 FROM run_items WHERE run_pk = NEW.run_pk AND item_index = NEW.item_index)
BEGIN
    SELECT RAISE(ABORT, 'items of a run are never replaced');
END;

CREATE TRIGGER runs_refuse_delete BEFORE DELETE ON runs
WHEN NOT EXISTS (SELECT 1 FROM purging_runs WHERE run_pk = OLD.pk)
BEGIN
    SELECT RAISE(ABORT, 'runs are never deleted but by a purge');
END;

CREATE TABLE file_refs (
    session_pk INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    content_id TEXT NOT NULL,
    PRIMARY KEY (session_pk, seq, content_id),
    FOREIGN KEY (session_pk, seq) REFERENCES messages (session_pk, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX file_refs_by_content ON file_refs (content_id, session_pk, seq);

CREATE TRIGGER file_refs_refuse_update BEFORE UPDATE ON file_refs
BEGIN
    SELECT RAISE(ABORT, 'references to files are never changed');
END;

CREATE TRIGGER file_refs_refuse_delete BEFORE DELETE ON file_refs
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'references to files are never deleted; purge the whole session');
END;

CREATE TRIGGER file_refs_refuse_replace BEFORE INSERT ON file_refs
WHEN EXISTS (
    SELECT 1 FROM file_refs WHERE session_pk = NEW.session_pk AND seq = NEW.seq AND content_id = NEW.content_id
)
BEGIN
    SELECT RAISE(ABORT, 'references to files are never replaced');
END;

CREATE TABLE changes (
    pk INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,
    kind TEXT NOT NULL,
    session_pk INTEGER,
    run_pk INTEGER,
    body TEXT NOT NULL
, crc INTEGER) STRICT;

CREATE VIRTUAL TABLE search_vocabulary USING fts5vocab ('search_words', 'row');

CREATE TABLE record_heads (
    session_pk INTEGER PRIMARY KEY REFERENCES sessions (pk),
    summaries BLOB NOT NULL,
    compactions BLOB NOT NULL,
    interruptions BLOB NOT NULL,
    hidden_spans BLOB NOT NULL,
    prunes BLOB NOT NULL,
    covers BLOB NOT NULL,
    pins BLOB NOT NULL
) STRICT;

CREATE TABLE deletions (pk INTEGER PRIMARY KEY CHECK (pk = 1), change_pks INTEGER NOT NULL) STRICT;

CREATE TABLE unhashed (
    kind TEXT NOT NULL CHECK (kind IN ('session', 'run')),
    pk INTEGER NOT NULL,
    PRIMARY KEY (kind, pk)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER run_inputs_refuse_update BEFORE UPDATE OF run_pk, item_index, input ON run_inputs
BEGIN
    SELECT RAISE(ABORT, 'inputs of a run are never changed');
END;

CREATE TRIGGER run_items_refuse_update
BEFORE UPDATE OF run_pk, item_index, state, claims, attempts, worker, lease_until, outcome ON run_items
WHEN OLD.state = 'done' OR (OLD.state = 'failed' AND NEW.state <> 'pending')
    OR NEW.run_pk <> OLD.run_pk OR NEW.item_index <> OLD.item_index
BEGIN
    SELECT RAISE(ABORT, 'what came of an item is never changed');
END;

CREATE TABLE search_blocks (
    name TEXT NOT NULL,
    id INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (name, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE turn_leases (
    session_pk INTEGER PRIMARY KEY REFERENCES sessions (pk),
    fence INTEGER NOT NULL,
    holder TEXT,
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE run_plans (
    run_pk INTEGER PRIMARY KEY REFERENCES runs (pk),
    plan TEXT NOT NULL
) STRICT;

CREATE TRIGGER run_plans_refuse_update BEFORE UPDATE ON run_plans
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never changed');
END;

CREATE TRIGGER run_plans_refuse_delete BEFORE DELETE ON run_plans
WHEN NOT EXISTS (SELECT 1 FROM purging_runs WHERE run_pk = OLD.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never deleted; purge the whole run');
END;

CREATE TRIGGER run_plans_refuse_replace BEFORE INSERT ON run_plans
WHEN EXISTS (SELECT 1 FROM run_plans WHERE run_pk = NEW.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never replaced');
END;

CREATE INDEX accounts_by_last_used ON accounts (last_used, session_pk);

CREATE TABLE segments (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    source_pk INTEGER NOT NULL REFERENCES sessions (pk) CHECK (source_pk <> session_pk),
    PRIMARY KEY (session_pk, first_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX segments_by_source ON segments (source_pk);

CREATE TABLE inherited_summaries (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    summary_pk INTEGER NOT NULL REFERENCES summaries (pk),
    PRIMARY KEY (session_pk, summary_pk)
) STRICT, WITHOUT ROWID;

CREATE INDEX inherited_summaries_by_summary ON inherited_summaries (summary_pk);

CREATE TRIGGER segments_refuse_update BEFORE UPDATE ON segments
BEGIN
    SELECT RAISE(ABORT, 'the segments of a fork are never changed');
END;

CREATE TRIGGER segments_refuse_delete BEFORE DELETE ON segments
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'the segments of a fork are never deleted; purge the whole session');
END;

CREATE TRIGGER inherited_summaries_refuse_update BEFORE UPDATE ON inherited_summaries
BEGIN
    SELECT RAISE(ABORT, 'the summaries of a fork are never changed');
END;

CREATE TRIGGER inherited_summaries_refuse_delete BEFORE DELETE ON inherited_summaries
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE session_pk = OLD.session_pk)
BEGIN
    SELECT RAISE(ABORT, 'the summaries of a fork are never deleted; purge the whole session');
END;

CREATE TABLE "prunes" (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    seq INTEGER NOT NULL,
    part_index INTEGER NOT NULL,
    tokens_saved INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq, part_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE "pins" (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    seq INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER summary_messages_refuse_delete BEFORE DELETE ON summary_messages
WHEN NOT EXISTS (
    SELECT 1 FROM purging JOIN summaries ON summaries.session_pk = purging.session_pk WHERE summaries.pk = OLD.summary_pk
)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never deleted; purge the whole session');
END;

CREATE TABLE search_vectors (
    key INTEGER NOT NULL, -- session_pk << 32 | seq
    model TEXT NOT NULL,
    vectors BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (key, model)
) STRICT, WITHOUT ROWID;

INSERT INTO deletions VALUES (1, 0);
