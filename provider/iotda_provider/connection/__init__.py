"""One Airflow connection, parsed and checked."""
