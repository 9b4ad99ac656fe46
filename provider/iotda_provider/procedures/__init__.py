"""What takes more than one call, written once for both hooks."""
