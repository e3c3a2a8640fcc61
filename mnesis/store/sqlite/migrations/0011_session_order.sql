-- Lists of sessions are pages in the order of their last use. Without this index every page would sort all sessions.
CREATE INDEX accounts_by_last_used ON accounts (last_used, session_pk);
