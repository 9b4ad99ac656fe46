"""Sensors: wait for a batch task, and guard a rollout."""
