"""Links from a task in Airflow's UI to the page that explains its result."""
