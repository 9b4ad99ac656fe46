"""What one emulator knows: its world, its journal, and the file that is kept over a restart."""
