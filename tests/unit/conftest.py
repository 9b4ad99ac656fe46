"""Fixtures for tests of one part alone; what all tests share is in tests/conftest.py."""
