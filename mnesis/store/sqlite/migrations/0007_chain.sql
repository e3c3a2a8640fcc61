-- Hashes that prove the history unchanged
--
-- mnesis/store/chain.py defines them. A hash that is NULL was not computed yet: the first connection that may write computes
-- those of an older database, session by session.

ALTER TABLE sessions ADD COLUMN hash BLOB;

-- The sums of row numbers reveal a row of `messages` or `changes` that was renumbered or is missing.
ALTER TABLE accounts ADD COLUMN message_pks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN change_pks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN log_head BLOB;
ALTER TABLE accounts ADD COLUMN turn_head BLOB;
ALTER TABLE accounts ADD COLUMN record_head BLOB;
ALTER TABLE accounts ADD COLUMN hash BLOB;
ALTER TABLE accounts ADD COLUMN seal BLOB;

UPDATE accounts SET message_pks = (
    SELECT coalesce(sum(m.pk), 0) FROM messages AS m WHERE m.session_pk = accounts.session_pk
);

UPDATE accounts SET change_pks = sums.total
FROM (SELECT session_pk, sum(pk) AS total FROM changes WHERE kind <> 'deleted' GROUP BY session_pk) AS sums
WHERE sums.session_pk = accounts.session_pk;

-- One hash per kind of record that an append leaves alone. A kind without records has 32 zero bytes.
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

ALTER TABLE changes ADD COLUMN crc INTEGER;

-- The sum of the row numbers of changes that belong to no session and no run, in one row.
CREATE TABLE deletions (pk INTEGER PRIMARY KEY CHECK (pk = 1), change_pks INTEGER NOT NULL) STRICT;

INSERT INTO deletions (pk, change_pks)
SELECT 1, coalesce(sum(pk), 0) FROM changes WHERE kind IN ('deleted', 'run_deleted');

ALTER TABLE runs ADD COLUMN change_pks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN input_head BLOB;
ALTER TABLE runs ADD COLUMN hash BLOB;
ALTER TABLE runs ADD COLUMN seal BLOB;
ALTER TABLE run_inputs ADD COLUMN hash BLOB;
ALTER TABLE run_items ADD COLUMN hash BLOB;
ALTER TABLE run_items ADD COLUMN seal BLOB;

UPDATE runs SET change_pks = (
    SELECT coalesce(sum(c.pk), 0) FROM changes AS c WHERE c.run_pk = runs.pk
);

-- Sessions and runs of an older database whose hashes are not computed yet.
CREATE TABLE unhashed (
    kind TEXT NOT NULL CHECK (kind IN ('session', 'run')),
    pk INTEGER NOT NULL,
    PRIMARY KEY (kind, pk)
) STRICT, WITHOUT ROWID;

INSERT INTO unhashed (kind, pk)
SELECT 'session', pk FROM sessions UNION ALL SELECT 'run', pk FROM runs;

-- Hashes and seals may be added later; they prove themselves.
DROP TRIGGER run_inputs_refuse_update;

CREATE TRIGGER run_inputs_refuse_update BEFORE UPDATE OF run_pk, item_index, input ON run_inputs
BEGIN
    SELECT RAISE(ABORT, 'inputs of a run are never changed');
END;

DROP TRIGGER run_items_refuse_update;

CREATE TRIGGER run_items_refuse_update
BEFORE UPDATE OF run_pk, item_index, state, claims, attempts, worker, lease_until, outcome ON run_items
WHEN OLD.state = 'done' OR (OLD.state = 'failed' AND NEW.state <> 'pending')
    OR NEW.run_pk <> OLD.run_pk OR NEW.item_index <> OLD.item_index
BEGIN
    SELECT RAISE(ABORT, 'what came of an item is never changed');
END;
