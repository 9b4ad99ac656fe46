"""The clients of IoTDA: a blocking hook and an asynchronous hook with the same methods."""
