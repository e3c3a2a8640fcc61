-- The words of the search index, for query words that match nothing: they are looked up by a part or with a typo.
CREATE VIRTUAL TABLE search_vocabulary USING fts5vocab ('search_words', 'row');
