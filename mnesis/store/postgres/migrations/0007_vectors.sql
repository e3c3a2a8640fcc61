-- Vectors of messages by an embedding model, for search by meaning. They can be computed again at any time.

-- `vectors` is the number of dimensions in two bytes, then one signed byte per dimension of each passage of the message.
CREATE TABLE {schema}.search_vectors (
    key bigint NOT NULL, -- session_pk << 32 | seq
    model text COLLATE "C" NOT NULL,
    vectors bytea NOT NULL,
    PRIMARY KEY (key, model)
);

CREATE OR REPLACE FUNCTION {schema}.clear_search(purged_pk bigint) RETURNS void
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
    DELETE FROM {schema}.search_vectors WHERE key BETWEEN purged_pk << 32 AND (purged_pk + 1 << 32) - 1;
END $$;

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases, {schema}.run_plans, {schema}.segments, {schema}.inherited_summaries,'
        ' {schema}.record_heads TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items, {schema}.turn_leases,'
        ' {schema}.record_heads TO %I', target);
    EXECUTE format('GRANT UPDATE (profile, hash) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state,'
        ' {schema}.search_vectors TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions() TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;

SELECT {schema}.grant_access(role_name) FROM {schema}.granted_roles;
