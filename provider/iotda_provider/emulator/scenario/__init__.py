"""What is emulated: the fleet's behaviour, IoTDA's undocumented behaviour, and the faults."""
