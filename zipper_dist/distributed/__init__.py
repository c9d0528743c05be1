"""Ranks: who does what, how they talk, how they use the time they would wait."""
