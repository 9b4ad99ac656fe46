"""The Rollouts page in Airflow's UI: a plugin, a small app that only reads, and static files."""
