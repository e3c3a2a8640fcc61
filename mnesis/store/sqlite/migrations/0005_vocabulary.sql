-- The words of the search index, to look up query words that match nothing by a part or with a typo.
CREATE VIRTUAL TABLE search_vocabulary USING fts5vocab ('search_words', 'row');
