-- Vectors of messages by an embedding model, for search by meaning. They can be computed again at any time.

-- `vectors` is the number of dimensions in two bytes, then one signed byte per dimension of each passage of the message.
CREATE TABLE search_vectors (
    key INTEGER NOT NULL, -- session_pk << 32 | seq
    model TEXT NOT NULL,
    vectors BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (key, model)
) STRICT, WITHOUT ROWID;
