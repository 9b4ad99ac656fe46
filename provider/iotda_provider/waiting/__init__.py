"""Deadlines and outages: for how long something is waited for."""
