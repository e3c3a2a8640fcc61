"""A long conversation for trying the library without a model. `mnesis demo` replays it."""
