"""HTTP: the server, what it checks of every request, and a route for each call."""
