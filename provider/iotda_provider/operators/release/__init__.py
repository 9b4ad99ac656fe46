"""Task groups: several operators that belong together, with one function to make them."""
