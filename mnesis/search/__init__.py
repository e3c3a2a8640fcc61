"""Finding originals: what is indexed of a message, how a question is read, how matches are ranked. Pure functions."""
