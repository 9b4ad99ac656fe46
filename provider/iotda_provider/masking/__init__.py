"""Secrets, and what keeps them out of logs, errors and reprs."""
