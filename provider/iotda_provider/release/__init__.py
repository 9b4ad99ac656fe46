"""A release in waves: which device is in which wave, what lets a wave pass, how it has ended."""
