-- Checksums of the search index, so that damage to it is found without analysing every message again.
--
-- The index is rebuilt by the next search, because the checksums of an older one are unknown.
INSERT INTO search_words (search_words) VALUES ('delete-all');
INSERT INTO search_trigrams (search_trigrams) VALUES ('delete-all');
DELETE FROM search_rows;
DELETE FROM search_speakers;
DELETE FROM search_state;

ALTER TABLE search_rows ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE search_state ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;

-- One row per block that the full-text tables store: the name of their table, the id of the block, and its checksum.
CREATE TABLE search_blocks (
    name TEXT NOT NULL,
    id INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (name, id)
) STRICT, WITHOUT ROWID;
