"""Fixtures for tests over real HTTP, outside of Airflow; the rest is in tests/conftest.py."""

from __future__ import annotations

from tests.variables import variables

__all__ = ["variables"]
