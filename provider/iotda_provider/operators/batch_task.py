"""Operators for batch tasks: the names to import."""

from iotda_provider.operators.create import CreateBatchTaskOperator
from iotda_provider.operators.stop import StopBatchTaskOperator

__all__ = ["CreateBatchTaskOperator", "StopBatchTaskOperator"]
