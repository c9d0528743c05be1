"""The options of a run: typed, read from a command line, checked."""
