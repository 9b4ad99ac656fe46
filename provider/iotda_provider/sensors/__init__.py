"""Airflow sensors for IoTDA batch tasks."""
