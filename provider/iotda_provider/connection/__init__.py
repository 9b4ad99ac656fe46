"""An Airflow connection: its fields, its form, and its checked settings."""
