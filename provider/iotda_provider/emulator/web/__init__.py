"""HTTP: the server, the checks at its door, and a route for each call."""
