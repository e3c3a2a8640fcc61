-- Lists of sessions are pages in the order of their last use. An index, so that a page need not sort all sessions.
CREATE INDEX accounts_by_last_used ON accounts (last_used, session_pk);
