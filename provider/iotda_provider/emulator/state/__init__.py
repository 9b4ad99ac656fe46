"""What one emulator remembers: its world, its journal, and the file that outlives a restart."""
