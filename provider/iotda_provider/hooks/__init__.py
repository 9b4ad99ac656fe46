"""Connections to IoTDA: two thin transports over one description of the API."""
