"""Seconds an iteration by placement, where they go, and what they would be on other machines."""
