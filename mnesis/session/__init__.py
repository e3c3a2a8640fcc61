"""Sessions: conversations stored verbatim and sent to a model as windows that always fit. Start with `session.MnesisSession`."""
