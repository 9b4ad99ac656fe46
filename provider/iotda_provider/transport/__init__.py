"""Sends requests: one attempt, retries, rate limit, timeouts, shared sessions."""
