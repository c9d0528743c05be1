"""The parts of the evaluation command: subject, attacks, blocks of examples, outcomes, checks."""
