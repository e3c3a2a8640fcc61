-- The schema of mnesis in PostgreSQL: the log, summaries, active contexts, map runs, changes and the search index.
--
-- `{schema}` is replaced with the quoted name of the schema. Texts that users wrote are JSON in bytea columns, because text
-- columns hold neither NUL nor unpaired surrogates. Ids are text in which NUL and backslash are escaped. Times are
-- milliseconds since 1970 and order nothing; `seq` does.

CREATE TABLE {schema}.mnesis_schema (
    version integer NOT NULL,
    -- Added to transaction numbers to get positions of changes; grows when a copy of the database begins to count again.
    position_offset bigint NOT NULL
);

INSERT INTO {schema}.mnesis_schema (version, position_offset) VALUES (0, 0);

CREATE TABLE {schema}.granted_roles (role_name name PRIMARY KEY);

CREATE TABLE {schema}.sessions (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    parent_id text COLLATE "C",
    created_at bigint NOT NULL,
    profile bytea NOT NULL -- JSON: model, system_prompt, agent, title, metadata
);

CREATE INDEX sessions_by_parent ON {schema}.sessions (parent_id) WHERE parent_id IS NOT NULL;

-- One narrow row per session, the only one an append rewrites, and the lock of its session. `last_used` is in nanoseconds.
CREATE TABLE {schema}.accounts (
    session_pk bigint PRIMARY KEY REFERENCES {schema}.sessions (pk),
    last_used bigint NOT NULL,
    updated_at bigint NOT NULL,
    last_seq bigint NOT NULL,
    turn_count bigint NOT NULL,
    system_tokens bigint NOT NULL,
    message_tokens bigint NOT NULL,
    tool_tokens bigint NOT NULL,
    summary_tokens bigint NOT NULL,
    context_tokens bigint NOT NULL,
    last_request_tokens bigint,
    calibration double precision NOT NULL,
    usage_input bigint NOT NULL,
    usage_output bigint NOT NULL,
    usage_cache_read bigint NOT NULL,
    usage_cache_write bigint NOT NULL,
    usage_total bigint NOT NULL,
    usage_reasoning bigint NOT NULL,
    cost double precision NOT NULL,
    fold_count bigint NOT NULL,
    last_request bytea,
    log_head bytea NOT NULL -- the head of the chain of message hashes
) WITH (fillfactor = 50);

CREATE INDEX accounts_by_last_used ON {schema}.accounts (last_used, session_pk);

CREATE TABLE {schema}.messages (
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    seq bigint NOT NULL CHECK (seq > 0),
    token_count bigint NOT NULL,
    tool_tokens bigint NOT NULL,
    created_at bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    hash bytea NOT NULL CHECK (length(hash) = 32), -- covers the message, its session, place and time
    meta bytea,
    parts bytea NOT NULL, -- JSON: a list of parts, or the text of a message that is only text
    PRIMARY KEY (session_pk, seq),
    UNIQUE (session_pk, id)
);

CREATE TABLE {schema}.summaries (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    first_seq bigint NOT NULL CHECK (first_seq > 0),
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    token_count bigint NOT NULL,
    message_count bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32), -- sha256 of id and body
    body bytea NOT NULL,
    UNIQUE (session_pk, id)
);

-- The messages that a leaf covers.
CREATE TABLE {schema}.summary_messages (
    summary_pk bigint NOT NULL REFERENCES {schema}.summaries (pk),
    seq bigint NOT NULL,
    session_pk bigint NOT NULL,
    PRIMARY KEY (summary_pk, seq),
    FOREIGN KEY (session_pk, seq) REFERENCES {schema}.messages (session_pk, seq)
);

CREATE INDEX summary_messages_by_message ON {schema}.summary_messages (session_pk, seq);

-- The summaries that a condensed summary covers.
CREATE TABLE {schema}.summary_children (
    parent_pk bigint NOT NULL REFERENCES {schema}.summaries (pk),
    position integer NOT NULL,
    child_pk bigint NOT NULL REFERENCES {schema}.summaries (pk) CHECK (child_pk <> parent_pk),
    session_pk bigint NOT NULL,
    PRIMARY KEY (parent_pk, position),
    UNIQUE (parent_pk, child_pk)
);

CREATE INDEX summary_children_by_child ON {schema}.summary_children (child_pk);
CREATE INDEX summary_children_by_session ON {schema}.summary_children (session_pk);

-- What the active context shows instead of messages; without a summary the span is hidden.
CREATE TABLE {schema}.context_covers (
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    first_seq bigint NOT NULL CHECK (first_seq > 0),
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    summary_pk bigint REFERENCES {schema}.summaries (pk),
    PRIMARY KEY (session_pk, first_seq)
);

CREATE INDEX context_covers_by_summary ON {schema}.context_covers (summary_pk);

-- Every span that was ever hidden; tells a gap under a summary that was wanted from one that is damage.
CREATE TABLE {schema}.hidden_spans (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL
);

CREATE INDEX hidden_spans_by_session ON {schema}.hidden_spans (session_pk);

-- Tool outputs that are shown as markers.
CREATE TABLE {schema}.prunes (
    session_pk bigint NOT NULL,
    seq bigint NOT NULL,
    part_index bigint NOT NULL,
    tokens_saved bigint NOT NULL,
    PRIMARY KEY (session_pk, seq, part_index),
    FOREIGN KEY (session_pk, seq) REFERENCES {schema}.messages (session_pk, seq)
);

CREATE TABLE {schema}.pins (
    session_pk bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (session_pk, seq),
    FOREIGN KEY (session_pk, seq) REFERENCES {schema}.messages (session_pk, seq)
);

CREATE TABLE {schema}.file_refs (
    session_pk bigint NOT NULL,
    seq bigint NOT NULL,
    content_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_pk, seq, content_id),
    FOREIGN KEY (session_pk, seq) REFERENCES {schema}.messages (session_pk, seq)
);

CREATE INDEX file_refs_by_content ON {schema}.file_refs (content_id, session_pk, seq);

CREATE TABLE {schema}.turns (
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    turn_index bigint NOT NULL,
    seq bigint NOT NULL,
    role text NOT NULL,
    system_tokens bigint NOT NULL,
    summary_tokens bigint NOT NULL,
    message_tokens bigint NOT NULL,
    tool_tokens bigint NOT NULL,
    context_tokens bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (session_pk, turn_index)
);

CREATE TABLE {schema}.compactions (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    result bytea NOT NULL
);

CREATE INDEX compactions_by_session ON {schema}.compactions (session_pk, pk);

CREATE TABLE {schema}.interruptions (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    body bytea NOT NULL
);

CREATE INDEX interruptions_by_session ON {schema}.interruptions (session_pk, pk);

-- What was committed, in order. `position` is the number of the transaction, which is given after the session is locked,
-- so that the changes of one session are in order too. One narrow row names rows of other tables instead of repeating them.
CREATE TABLE {schema}.changes (
    position bigint NOT NULL,
    pk bigint GENERATED ALWAYS AS IDENTITY,
    origin bigint NOT NULL,
    kind text NOT NULL,
    session_pk bigint,
    run_pk bigint,
    body text NOT NULL,
    PRIMARY KEY (position, pk)
);

CREATE INDEX changes_by_session ON {schema}.changes (session_pk) WHERE session_pk IS NOT NULL;
CREATE INDEX changes_by_run ON {schema}.changes (run_pk) WHERE run_pk IS NOT NULL;

-- Map runs. One narrow row per run, whose counts move in the transaction that changes its items, and the lock of its items.
CREATE TABLE {schema}.runs (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    kind text NOT NULL,
    fingerprint text NOT NULL,
    model text NOT NULL,
    created_at bigint NOT NULL,
    total bigint,
    pending bigint NOT NULL DEFAULT 0 CHECK (pending >= 0),
    running bigint NOT NULL DEFAULT 0 CHECK (running >= 0),
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0 CHECK (failed >= 0),
    attempts bigint NOT NULL DEFAULT 0,
    usage_input bigint NOT NULL DEFAULT 0,
    usage_output bigint NOT NULL DEFAULT 0,
    usage_cache_read bigint NOT NULL DEFAULT 0,
    usage_cache_write bigint NOT NULL DEFAULT 0,
    usage_total bigint NOT NULL DEFAULT 0,
    cost double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Apart from the states, so that a claim does not rewrite what may be large.
CREATE TABLE {schema}.run_inputs (
    run_pk bigint NOT NULL REFERENCES {schema}.runs (pk),
    item_index bigint NOT NULL CHECK (item_index >= 0),
    input bytea NOT NULL,
    PRIMARY KEY (run_pk, item_index)
);

CREATE TABLE {schema}.run_items (
    run_pk bigint NOT NULL REFERENCES {schema}.runs (pk),
    item_index bigint NOT NULL CHECK (item_index >= 0),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
    claims bigint NOT NULL DEFAULT 0 CHECK (claims >= 0),
    attempts bigint NOT NULL DEFAULT 0,
    worker text COLLATE "C",
    lease_until bigint,
    outcome bytea,
    PRIMARY KEY (run_pk, item_index),
    CHECK ((state = 'running') = (worker IS NOT NULL) AND (state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (outcome IS NOT NULL))
) WITH (fillfactor = 70);

CREATE INDEX run_items_by_state ON {schema}.run_items (run_pk, state, item_index);
CREATE INDEX run_items_by_lease ON {schema}.run_items (run_pk, lease_until) WHERE state = 'running';

-- The search index, filled from the log when a search needs it. Keys are session_pk << 32 | seq.
CREATE TABLE {schema}.search_words (
    term text COLLATE "C" NOT NULL,
    key bigint NOT NULL,
    PRIMARY KEY (term, key)
);

-- Many rows share a session, so this index is small (deduplication of B-trees since PostgreSQL 13); purges use it.
CREATE INDEX search_words_by_session ON {schema}.search_words ((key >> 32));

CREATE TABLE {schema}.search_vocabulary (term text COLLATE "C" PRIMARY KEY);

CREATE TABLE {schema}.search_trigrams (
    key bigint PRIMARY KEY,
    trigrams integer[] NOT NULL -- hashes of the trigrams of the text in lower case
);

CREATE INDEX search_trigrams_by_trigram ON {schema}.search_trigrams USING gin (trigrams);

CREATE TABLE {schema}.search_rows (
    key bigint PRIMARY KEY,
    words bigint NOT NULL,
    created_at bigint NOT NULL,
    role text NOT NULL,
    speaker text NOT NULL,
    tools text NOT NULL -- names, one per line
);

CREATE TABLE {schema}.search_speakers (
    session_pk bigint NOT NULL,
    speaker text COLLATE "C" NOT NULL,
    messages bigint NOT NULL,
    PRIMARY KEY (session_pk, speaker)
);

CREATE TABLE {schema}.search_state (
    session_pk bigint PRIMARY KEY,
    rules integer NOT NULL,
    words_seq bigint NOT NULL,
    trigrams_seq bigint NOT NULL
);

-- A session or run named here is being erased by the transaction that named it; nothing else may delete.
CREATE TABLE {schema}.purging (session_pk bigint PRIMARY KEY);
CREATE TABLE {schema}.purging_runs (run_pk bigint PRIMARY KEY);

-- The log refuses change. MN001 is the error code of all refusals.

CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the log is never changed; purge a whole session or run', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'MN001';
END $$;

CREATE FUNCTION {schema}.refuse_unless_purging() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.purging WHERE session_pk = OLD.session_pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: purge the whole session', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION {schema}.refuse_session_unless_purging() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.purging WHERE session_pk = OLD.pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: purge the whole session', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION {schema}.refuse_unless_purging_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.purging_runs WHERE run_pk = OLD.run_pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: purge the whole run', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION {schema}.refuse_run_unless_purging() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.purging_runs WHERE run_pk = OLD.pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: purge the whole run', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION {schema}.refuse_item_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'done' OR (OLD.state = 'failed' AND NEW.state <> 'pending')
        OR NEW.run_pk <> OLD.run_pk OR NEW.item_index <> OLD.item_index THEN
        RAISE EXCEPTION 'UPDATE of run_items is refused: an outcome is never changed' USING ERRCODE = 'MN001';
    END IF;
    RETURN NEW;
END $$;

DO $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'messages', 'summaries', 'summary_messages', 'summary_children', 'turns', 'compactions', 'interruptions',
        'hidden_spans', 'file_refs'
    ] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON {schema}.%I FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()',
            each || '_refuse_update', each);
        EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON {schema}.%I FOR EACH ROW'
            ' EXECUTE FUNCTION {schema}.refuse_unless_purging()', each || '_refuse_delete', each);
    END LOOP;
    FOREACH each IN ARRAY ARRAY[
        'sessions', 'accounts', 'messages', 'summaries', 'summary_messages', 'summary_children', 'turns', 'compactions',
        'interruptions', 'hidden_spans', 'file_refs', 'prunes', 'pins', 'context_covers', 'runs', 'run_inputs', 'run_items'
    ] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON {schema}.%I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION {schema}.refuse()', each || '_refuse_truncate', each);
    END LOOP;
END $$;

CREATE TRIGGER sessions_refuse_delete BEFORE DELETE ON {schema}.sessions
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_session_unless_purging();
CREATE TRIGGER accounts_refuse_delete BEFORE DELETE ON {schema}.accounts
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_unless_purging();
CREATE TRIGGER run_inputs_refuse_update BEFORE UPDATE ON {schema}.run_inputs
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER run_inputs_refuse_delete BEFORE DELETE ON {schema}.run_inputs
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_unless_purging_run();
CREATE TRIGGER run_items_refuse_update BEFORE UPDATE ON {schema}.run_items
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_item_change();
CREATE TRIGGER run_items_refuse_delete BEFORE DELETE ON {schema}.run_items
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_unless_purging_run();
CREATE TRIGGER runs_refuse_delete BEFORE DELETE ON {schema}.runs
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_run_unless_purging();

-- Purges run with the rights of the owner, so that the role of an application needs no right to delete from the log.

CREATE FUNCTION {schema}.clear_search(purged_pk bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    terms text[] := ARRAY(SELECT DISTINCT term FROM {schema}.search_words WHERE key >> 32 = purged_pk);
BEGIN
    DELETE FROM {schema}.search_words WHERE key >> 32 = purged_pk;
    DELETE FROM {schema}.search_vocabulary AS v
    WHERE v.term = ANY (terms) AND NOT EXISTS (SELECT 1 FROM {schema}.search_words AS w WHERE w.term = v.term);
    DELETE FROM {schema}.search_trigrams WHERE key BETWEEN purged_pk << 32 AND (purged_pk + 1 << 32) - 1;
    DELETE FROM {schema}.search_rows WHERE key BETWEEN purged_pk << 32 AND (purged_pk + 1 << 32) - 1;
    DELETE FROM {schema}.search_speakers WHERE session_pk = purged_pk;
    DELETE FROM {schema}.search_state WHERE session_pk = purged_pk;
END $$;

CREATE FUNCTION {schema}.purge_session(purged_pk bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.purging (session_pk) VALUES (purged_pk);
    PERFORM {schema}.clear_search(purged_pk);
    DELETE FROM {schema}.changes WHERE session_pk = purged_pk AND kind <> 'deleted';
    DELETE FROM {schema}.summary_children WHERE session_pk = purged_pk;
    DELETE FROM {schema}.summary_messages WHERE session_pk = purged_pk;
    DELETE FROM {schema}.context_covers WHERE session_pk = purged_pk;
    DELETE FROM {schema}.hidden_spans WHERE session_pk = purged_pk;
    DELETE FROM {schema}.prunes WHERE session_pk = purged_pk;
    DELETE FROM {schema}.pins WHERE session_pk = purged_pk;
    DELETE FROM {schema}.file_refs WHERE session_pk = purged_pk;
    DELETE FROM {schema}.turns WHERE session_pk = purged_pk;
    DELETE FROM {schema}.compactions WHERE session_pk = purged_pk;
    DELETE FROM {schema}.interruptions WHERE session_pk = purged_pk;
    DELETE FROM {schema}.summaries WHERE session_pk = purged_pk;
    DELETE FROM {schema}.messages WHERE session_pk = purged_pk;
    DELETE FROM {schema}.accounts WHERE session_pk = purged_pk;
    DELETE FROM {schema}.sessions WHERE pk = purged_pk;
    DELETE FROM {schema}.purging WHERE session_pk = purged_pk;
END $$;

CREATE FUNCTION {schema}.purge_run(purged_pk bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.purging_runs (run_pk) VALUES (purged_pk);
    DELETE FROM {schema}.changes WHERE run_pk = purged_pk;
    DELETE FROM {schema}.run_inputs WHERE run_pk = purged_pk;
    DELETE FROM {schema}.run_items WHERE run_pk = purged_pk;
    DELETE FROM {schema}.runs WHERE pk = purged_pk;
    DELETE FROM {schema}.purging_runs WHERE run_pk = purged_pk;
END $$;

-- A copy restored from a dump begins to count transactions again. Positions continue after the newest one all the same.
CREATE FUNCTION {schema}.continue_positions() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bigint := (SELECT max(position) FROM {schema}.changes);
    next_number bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
BEGIN
    UPDATE {schema}.mnesis_schema SET position_offset = newest + 1 - next_number
    WHERE newest >= next_number + position_offset;
END $$;

REVOKE EXECUTE ON FUNCTION {schema}.continue_positions() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION {schema}.clear_search(bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION {schema}.purge_session(bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION {schema}.purge_run(bigint) FROM PUBLIC;

-- The rights of an application: it can use every verb, and can neither change nor delete what the log holds.
-- Called by the owner: SELECT mnesis.grant_access('app'). Later migrations call it again for every role it was called for.
CREATE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items TO %I', target);
    EXECUTE format('GRANT UPDATE (profile) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions() TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;
