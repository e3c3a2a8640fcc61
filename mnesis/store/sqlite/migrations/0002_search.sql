-- The search index, and messages that no fold may replace.
--
-- The index is made from the log when a search needs it and can be thrown away at any time: appending never touches it. Its
-- rows are keyed by session and place: session_pk << 32 | seq, so that the rows of a session lie together. It holds which
-- message has which word and nothing else: no text, no positions.

CREATE VIRTUAL TABLE search_words USING fts5 (
    text, content = '', columnsize = 0, detail = none, tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE VIRTUAL TABLE search_trigrams USING fts5 (
    text, content = '', columnsize = 0, detail = none, tokenize = 'trigram'
);

-- What ranking knows of an indexed message. `tools` are names, one per line.
CREATE TABLE search_rows (
    key INTEGER PRIMARY KEY,
    words INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    role TEXT NOT NULL,
    speaker TEXT NOT NULL,
    tools TEXT NOT NULL
) STRICT;

-- Who speaks in a session, as far as its messages say so, and how often.
CREATE TABLE search_speakers (
    session_pk INTEGER NOT NULL,
    speaker TEXT NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (session_pk, speaker)
) STRICT, WITHOUT ROWID;

-- How far the log of a session is indexed, and by which rules.
CREATE TABLE search_state (
    session_pk INTEGER PRIMARY KEY,
    rules INTEGER NOT NULL,
    words_seq INTEGER NOT NULL,
    trigrams_seq INTEGER NOT NULL
) STRICT;

-- Messages that stay in the active context as they are.
CREATE TABLE pins (
    session_pk INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (session_pk, seq),
    FOREIGN KEY (session_pk, seq) REFERENCES messages (session_pk, seq)
) STRICT, WITHOUT ROWID;
