"""Metrics and plots: functions of prediction tables."""
