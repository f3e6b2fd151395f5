"""The smile benchmark: metrics, protocol, report."""
