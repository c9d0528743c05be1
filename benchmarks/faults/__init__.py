"""What `make chaos` does to training runs, and how it tells whether they survived."""
