"""The same waiting on the triggerer's event loop."""
