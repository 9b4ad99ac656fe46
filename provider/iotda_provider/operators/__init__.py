"""Airflow operators for IoTDA batch tasks."""
