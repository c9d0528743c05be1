"""How a network is run fast: precision, compilation, the surrogate that attacks differentiate."""
