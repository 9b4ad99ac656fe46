"""Waiting: deadlines, outages, and whether a batch task has reached a status."""
