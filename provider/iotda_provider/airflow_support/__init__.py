"""What Airflow lacks: deferral, notes between tries, threads, shared ids, mapped XComs."""
