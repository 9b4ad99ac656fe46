"""What Airflow does not offer by itself."""
