-- Stored files in the database, under the names that they have in an object store (mnesis/files/object_store.py).

CREATE TABLE {schema}.file_objects (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0)
);

-- The content in pieces of at most 1 MiB, so that neither the client nor the server holds a whole file in memory.
CREATE TABLE {schema}.file_chunks (
    file_pk bigint NOT NULL REFERENCES {schema}.file_objects (pk),
    position integer NOT NULL CHECK (position >= 0),
    content bytea NOT NULL,
    PRIMARY KEY (file_pk, position)
);

-- Stored as they are: trying to compress each piece costs more time than the network.
ALTER TABLE {schema}.file_chunks ALTER COLUMN content SET STORAGE EXTERNAL;

-- A file named here is being deleted by the transaction that named it; nothing else may delete.
CREATE TABLE {schema}.deleting_files (file_pk bigint PRIMARY KEY);

CREATE FUNCTION {schema}.refuse_file_unless_deleting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.deleting_files WHERE file_pk = OLD.pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: call delete_file', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION {schema}.refuse_chunk_unless_deleting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.deleting_files WHERE file_pk = OLD.file_pk) THEN
        RAISE EXCEPTION 'DELETE of % is refused: call delete_file', TG_TABLE_NAME USING ERRCODE = 'MN001';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER file_objects_refuse_delete BEFORE DELETE ON {schema}.file_objects
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_file_unless_deleting();
CREATE TRIGGER file_chunks_refuse_delete BEFORE DELETE ON {schema}.file_chunks
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_chunk_unless_deleting();

DO $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY['file_objects', 'file_chunks'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON {schema}.%I FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()',
            each || '_refuse_update', each);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON {schema}.%I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION {schema}.refuse()', each || '_refuse_truncate', each);
    END LOOP;
END $$;

-- Delete a file and return its size, or NULL if there is none. With the rights of the owner, like a purge.
CREATE FUNCTION {schema}.delete_file(file_name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deleted_pk bigint;
    deleted_bytes bigint;
BEGIN
    SELECT pk, size_bytes INTO deleted_pk, deleted_bytes FROM {schema}.file_objects WHERE name = file_name FOR UPDATE;
    IF deleted_pk IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.deleting_files (file_pk) VALUES (deleted_pk);
    DELETE FROM {schema}.file_chunks WHERE file_pk = deleted_pk;
    DELETE FROM {schema}.file_objects WHERE pk = deleted_pk;
    DELETE FROM {schema}.deleting_files WHERE file_pk = deleted_pk;
    RETURN deleted_bytes;
END $$;

REVOKE EXECUTE ON FUNCTION {schema}.delete_file(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases, {schema}.run_plans, {schema}.segments, {schema}.inherited_summaries,'
        ' {schema}.record_heads, {schema}.file_objects, {schema}.file_chunks TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items, {schema}.turn_leases,'
        ' {schema}.record_heads TO %I', target);
    EXECUTE format('GRANT UPDATE (profile, hash) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state,'
        ' {schema}.search_vectors TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions(),'
        ' {schema}.delete_file(text) TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;

SELECT {schema}.grant_access(role_name) FROM {schema}.granted_roles;
