"""From outcomes to figures, files, pictures and checks."""
