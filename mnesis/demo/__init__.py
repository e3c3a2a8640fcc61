"""A long conversation to try the library on, without any model: `mnesis demo` replays it."""
