"""Apache Airflow provider for Huawei Cloud IoTDA: guarded firmware rollouts and batch tasks."""

__version__ = "0.1.0"
