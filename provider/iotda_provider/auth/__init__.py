"""Authenticates requests: access keys, tokens, their renewal, and signatures."""
