"""What a run reports while it goes on, and where it goes."""
