-- Forks: sessions whose log begins with messages of another one, which it shares.

-- The spans of other logs with which the log of a fork begins, in order. `source_pk` is the session that stores them.
CREATE TABLE {schema}.segments (
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    first_seq bigint NOT NULL CHECK (first_seq > 0),
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    source_pk bigint NOT NULL REFERENCES {schema}.sessions (pk) CHECK (source_pk <> session_pk),
    PRIMARY KEY (session_pk, first_seq)
);

CREATE INDEX segments_by_source ON {schema}.segments (source_pk);

-- The summaries of other sessions that a fork has too.
CREATE TABLE {schema}.inherited_summaries (
    session_pk bigint NOT NULL REFERENCES {schema}.sessions (pk),
    summary_pk bigint NOT NULL REFERENCES {schema}.summaries (pk),
    PRIMARY KEY (session_pk, summary_pk)
);

CREATE INDEX inherited_summaries_by_summary ON {schema}.inherited_summaries (summary_pk);

-- The summaries of each session, those that a fork has of another session included.
CREATE VIEW {schema}.all_summaries AS
SELECT session_pk, pk, id, first_seq, last_seq, token_count, message_count, hash, body FROM {schema}.summaries
UNION ALL
SELECT i.session_pk, s.pk, s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, s.body
FROM {schema}.inherited_summaries AS i JOIN {schema}.summaries AS s ON s.pk = i.summary_pk;

-- A prune or pin of a fork may refer to a message that another session stores, so these tables lose that foreign key.
ALTER TABLE {schema}.prunes
    DROP CONSTRAINT prunes_session_pk_seq_fkey, ADD FOREIGN KEY (session_pk) REFERENCES {schema}.sessions (pk);
ALTER TABLE {schema}.pins
    DROP CONSTRAINT pins_session_pk_seq_fkey, ADD FOREIGN KEY (session_pk) REFERENCES {schema}.sessions (pk);

-- An edge belongs to the session of its summary. `session_pk` is the session that stores the message.
CREATE FUNCTION {schema}.refuse_edge_unless_purging() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM {schema}.purging AS p JOIN {schema}.summaries AS s ON s.session_pk = p.session_pk
        WHERE s.pk = OLD.summary_pk
    ) THEN
        RAISE EXCEPTION 'DELETE of % is refused: purge the whole session', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

DROP TRIGGER summary_messages_refuse_delete ON {schema}.summary_messages;
CREATE TRIGGER summary_messages_refuse_delete BEFORE DELETE ON {schema}.summary_messages
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_edge_unless_purging();

DO $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY['segments', 'inherited_summaries'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON {schema}.%I FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()',
            each || '_refuse_update', each);
        EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON {schema}.%I FOR EACH ROW'
            ' EXECUTE FUNCTION {schema}.refuse_unless_purging()', each || '_refuse_delete', each);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON {schema}.%I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION {schema}.refuse()', each || '_refuse_truncate', each);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION {schema}.purge_session(purged_pk bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.purging (session_pk) VALUES (purged_pk);
    PERFORM {schema}.clear_search(purged_pk);
    DELETE FROM {schema}.changes WHERE session_pk = purged_pk AND kind <> 'deleted';
    DELETE FROM {schema}.summary_children WHERE session_pk = purged_pk;
    DELETE FROM {schema}.summary_messages AS e USING {schema}.summaries AS s
    WHERE s.session_pk = purged_pk AND e.summary_pk = s.pk;
    DELETE FROM {schema}.context_covers WHERE session_pk = purged_pk;
    DELETE FROM {schema}.inherited_summaries WHERE session_pk = purged_pk;
    DELETE FROM {schema}.segments WHERE session_pk = purged_pk;
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

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases, {schema}.run_plans, {schema}.segments, {schema}.inherited_summaries TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items, {schema}.turn_leases TO %I', target);
    EXECUTE format('GRANT UPDATE (profile) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions() TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;

SELECT {schema}.grant_access(role_name) FROM {schema}.granted_roles;
