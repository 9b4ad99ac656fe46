"""The emulated IoTDA: batch tasks, devices, groups and packages. No HTTP, no real time."""
