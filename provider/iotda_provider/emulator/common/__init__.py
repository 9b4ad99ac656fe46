"""What every part of the emulator uses: time, chance, error answers, pages, strict JSON."""
