"""From a connection's settings to signed headers."""
