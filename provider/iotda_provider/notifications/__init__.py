"""Who is told: Airflow's notifiers and ``on_alert``, what they get, and how they are called."""
