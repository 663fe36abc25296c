"""Counters, gauges and histograms, and Prometheus' text of them."""
