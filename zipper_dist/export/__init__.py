"""What others can load: a network in the formats of other tools, a file here for each format."""
