-- Forks: sessions whose log begins with messages of another one, which it shares.

-- The spans of other logs with which the log of a fork begins, in order. `source_pk` is the session that stores them.
CREATE TABLE segments (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    source_pk INTEGER NOT NULL REFERENCES sessions (pk) CHECK (source_pk <> session_pk),
    PRIMARY KEY (session_pk, first_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX segments_by_source ON segments (source_pk);

-- The summaries of other sessions that a fork has too.
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

-- A prune or pin of a fork may refer to a message that another session stores, so these tables lose that foreign key.
CREATE TABLE new_prunes (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    seq INTEGER NOT NULL,
    part_index INTEGER NOT NULL,
    tokens_saved INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq, part_index)
) STRICT, WITHOUT ROWID;

INSERT INTO new_prunes SELECT session_pk, seq, part_index, tokens_saved FROM prunes;
DROP TABLE prunes;
ALTER TABLE new_prunes RENAME TO prunes;

CREATE TABLE new_pins (
    session_pk INTEGER NOT NULL REFERENCES sessions (pk),
    seq INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO new_pins SELECT session_pk, seq FROM pins;
DROP TABLE pins;
ALTER TABLE new_pins RENAME TO pins;

-- An edge belongs to the session of its summary. `session_pk` is the session that stores the message.
DROP TRIGGER summary_messages_refuse_delete;

CREATE TRIGGER summary_messages_refuse_delete BEFORE DELETE ON summary_messages
WHEN NOT EXISTS (
    SELECT 1 FROM purging JOIN summaries ON summaries.session_pk = purging.session_pk WHERE summaries.pk = OLD.summary_pk
)
BEGIN
    SELECT RAISE(ABORT, 'what a summary stands for is never deleted; purge the whole session');
END;
