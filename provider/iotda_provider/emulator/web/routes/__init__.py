"""HTTP and nothing else: each module translates one part of the API to and from the world."""
