"""Runs on one page: what their files say, as curves, timelines and tables in HTML."""
