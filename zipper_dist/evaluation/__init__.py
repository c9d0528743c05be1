"""The evaluation engine, of the command and of training: networks against attacks."""
