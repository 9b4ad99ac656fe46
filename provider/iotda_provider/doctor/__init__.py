"""Checks a connection end to end on the user's own instance (command ``iotda-guard doctor``)."""
