"""What is emulated: the fleet's behaviour, the answers to IoTDA's unknowns, the faults."""
