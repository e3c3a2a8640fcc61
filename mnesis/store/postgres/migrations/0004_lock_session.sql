-- One call instead of three statements, at the beginning of every transaction that changes a session.

-- Puts the writers of a session in order, locks its row, and returns the number of the transaction. The advisory lock comes
-- first, because a row lock may give a transaction its number before it is granted; numbers must follow the order of locks.
CREATE FUNCTION {schema}.lock_session(session_id text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.session ' || session_id, 0));
    PERFORM a.session_pk FROM {schema}.accounts AS a
    WHERE a.session_pk = (SELECT s.pk FROM {schema}.sessions AS s WHERE s.id = session_id) FOR NO KEY UPDATE;
    RETURN pg_current_xact_id()::text::bigint;
END $$;
