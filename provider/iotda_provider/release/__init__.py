"""A release in waves: who is in which wave, what lets a wave pass, what came of it."""
