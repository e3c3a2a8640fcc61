-- Map runs, which belong to the database and not to a session, and which messages refer to which stored files.

-- One narrow row per run: its counts and sums move in the transaction that changes its items.
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
) STRICT;

-- Apart from the states, so that a claim does not rewrite what may be large.
CREATE TABLE run_inputs (
    run_pk INTEGER NOT NULL REFERENCES runs (pk),
    item_index INTEGER NOT NULL CHECK (item_index >= 0),
    input TEXT NOT NULL,
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
    outcome TEXT,
    PRIMARY KEY (run_pk, item_index),
    CHECK ((state = 'running') = (worker IS NOT NULL) AND (state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX run_items_by_state ON run_items (run_pk, state, item_index);

CREATE INDEX run_items_by_lease ON run_items (run_pk, lease_until) WHERE state = 'running';

-- A run named here is being erased by the transaction that named it.
CREATE TABLE purging_runs (run_pk INTEGER PRIMARY KEY) STRICT;

CREATE TRIGGER run_inputs_refuse_update BEFORE UPDATE ON run_inputs
BEGIN
    SELECT RAISE(ABORT, 'inputs of a run are never changed');
END;

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

CREATE TRIGGER run_items_refuse_update BEFORE UPDATE ON run_items
WHEN OLD.state = 'done' OR (OLD.state = 'failed' AND NEW.state <> 'pending')
    OR NEW.run_pk <> OLD.run_pk OR NEW.item_index <> OLD.item_index
BEGIN
    SELECT RAISE(ABORT, 'what came of an item is never changed');
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

INSERT INTO file_refs (session_pk, seq, content_id)
SELECT DISTINCT session_pk, seq, content_id
FROM (
    SELECT
        m.session_pk, m.seq,
        CASE part.value ->> '$.type'
            WHEN 'file_ref' THEN part.value ->> '$.content_id'
            ELSE part.value ->> '$.output_file.content_id'
        END AS content_id
    FROM messages AS m
    CROSS JOIN json_each(CASE WHEN json_valid(m.parts) AND m.parts LIKE '[%' THEN m.parts ELSE '[]' END) AS part
    WHERE instr(m.parts, '"content_id"') > 0 AND part.type = 'object'
)
WHERE content_id <> '' AND content_id NOT GLOB '*[^ -~]*';

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
