"""How a request is sent once, and again; what waits for it, and how long."""
