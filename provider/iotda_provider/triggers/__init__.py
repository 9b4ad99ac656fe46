"""Triggers: what sensors and operators wait for, waited for on the triggerer's event loop."""
